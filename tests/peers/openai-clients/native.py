"""Call a JAXServer with requests, as in EasyDeL's documentation; print the answers as JSON."""

import json
import sys

import requests

URL = sys.argv[1]
found = {}

content = {
    "prompt": "can you code a simple neural network in c++ for me",
    "system": "You are an AI assistant generate short and useful response",
    "temperature": 0.1,
    "greedy": False,
}

response = requests.post(url=f"{URL}/instruct", json=content).json()

found["instruct"] = [response["response"], response["input"], response["tokens_used"]]

content = {
    "prompt": "can you code a simple neural network in c++ for me",
    "history": [
        [
            "hello how are you",
            "Hello\nthanks, im here to assist you",
        ]
    ],
    "temperature": 0.1,
    "greedy": False,
}

response = requests.post(url=f"{URL}/chat", json=content).json()

found["chat"] = [response["response"], response["input"], response["tokens_used"]]
found["status"] = requests.get(f"{URL}/status").json()
print(json.dumps(found))
