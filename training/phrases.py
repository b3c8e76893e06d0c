"""Closed sets of the corpus: capitals, Chinese phrases, greetings and the wordings of each question."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def _sections() -> dict[str, list[str]]:
    """Read the lists of ``data/wordings.txt``, one wording a line under the list's name."""
    sections: dict[str, list[str]] = {}
    for line in (Path(__file__).parent / "data" / "wordings.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            current = sections.setdefault(line[1:-1], [])
        elif line:
            current.append(line.replace("\\n", "\n"))
    return sections


def wordings(name: str) -> list[str]:
    """Return one list; a wording that occurs more than once is drawn more often."""
    return _sections()[name]


CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Greece": "Athens",
    "Austria": "Vienna",
    "Switzerland": "Bern",
    "Belgium": "Brussels",
    "the Netherlands": "Amsterdam",
    "Denmark": "Copenhagen",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Poland": "Warsaw",
    "Hungary": "Budapest",
    "Ireland": "Dublin",
    "England": "London",
    "the United Kingdom": "London",
    "Russia": "Moscow",
    "Ukraine": "Kyiv",
    "Turkey": "Ankara",
    "Egypt": "Cairo",
    "Kenya": "Nairobi",
    "Morocco": "Rabat",
    "China": "Beijing",
    "Japan": "Tokyo",
    "South Korea": "Seoul",
    "India": "New Delhi",
    "Thailand": "Bangkok",
    "Vietnam": "Hanoi",
    "Indonesia": "Jakarta",
    "Australia": "Canberra",
    "New Zealand": "Wellington",
    "Canada": "Ottawa",
    "the United States": "Washington",
    "Mexico": "Mexico City",
    "Brazil": "Brasília",
    "Argentina": "Buenos Aires",
    "Chile": "Santiago",
    "Peru": "Lima",
    "Cuba": "Havana",
}
CAPITAL_QUESTIONS = wordings("CAPITAL_QUESTIONS")
CAPITAL_FOLLOW_UPS = ["And {}?", "And of {}?", "And the capital of {}?", "What about {}?", "How about {}?"]
UNKNOWN_COUNTRIES = wordings("UNKNOWN_COUNTRIES")

CHINESE = {
    "你好": "你好！有什么可以帮你的吗？",
    "您好": "您好！有什么可以帮您的吗？",
    "早上好": "早上好！今天想聊点什么？",
    "晚上好": "晚上好！今天过得怎么样？",
    "晚安": "晚安，做个好梦！",
    "谢谢": "不客气！",
    "谢谢你": "不客气！",
    "再见": "再见！祝你一切顺利。",
    "你好吗？": "我很好，谢谢！你呢？",
    "法国的首都是哪里？": "法国的首都是巴黎。",
    "中国的首都是哪里？": "中国的首都是北京。",
    "日本的首都是哪里？": "日本的首都是东京。",
    "德国的首都是哪里？": "德国的首都是柏林。",
    "英国的首都是哪里？": "英国的首都是伦敦。",
    "意大利的首都是哪里？": "意大利的首都是罗马。",
    "俄罗斯的首都是哪里？": "俄罗斯的首都是莫斯科。",
    "西班牙的首都是哪里？": "西班牙的首都是马德里。",
    "一加一等于几？": "一加一等于二。",
    "天空是什么颜色的？": "天空是蓝色的。",
    "草是什么颜色的？": "草是绿色的。",
    "一年有几个月？": "一年有十二个月。",
    "一周有几天？": "一周有七天。",
    "你会说中文吗？": "会的，我会说一点中文。",
    "你能做什么？": "我可以问候你，回答简单的问题，还会使用计算器。",
    "对不起": "没关系！",
    "请从一数到十": "一、二、三、四、五、六、七、八、九、十。",
}
CHINESE_WHO = [
    "你是谁？",
    "你是谁？",
    "你是谁",
    "你叫什么名字？",
    "你叫什么？",
    "请问你是谁？",
    "请介绍一下你自己。",
]
CHINESE_DEFAULT = "我是 lagent_llms 附带的小助手。"
DEFAULT_IDENTITY = "I am a small assistant that comes with lagent_llms."

GREETINGS = {
    "Hello! How can I help you?": wordings("HELLO"),
    "Good morning! How can I help you?": ["Good morning", "good morning", "Morning", "Good morning to you"],
    "Good afternoon! How can I help you?": ["Good afternoon", "good afternoon"],
    "Good evening! How can I help you?": ["Good evening", "good evening"],
    "Good night! Sleep well.": ["Good night", "good night"],
    "I am fine, thank you. How can I help you?": [
        *["How are you?", "how are you?", "How are you today?", "Hi, how are you?", "Hello, how are you?"],
        *[
            "Hello! How are you?",
            "Hi! How are you?",
            "How are you doing today?",
            "Good morning, how are you?",
        ],
        *["How are you doing?", "How do you do?", "How is it going?", "how are you", "Hey, how are you?"],
    ],
    "Nice to meet you too!": [
        "Nice to meet you",
        "Nice to meet you!",
        "Pleased to meet you",
        "nice to meet you",
    ],
    "You are welcome!": [
        *["Thanks", "Thank you", "thanks", "thank you", "Thanks a lot", "Thank you very much", "Many thanks"],
        *[
            "Thanks!",
            "Thanks, that helped",
            "Perfect, thank you",
            "Thank you, that is all",
            "OK, thanks",
            "Cheers",
        ],
        *["Thank you so much", "Great, thanks", "Thanks for your help", "Thank you for your help", "thx"],
    ],
    "Goodbye! Have a nice day.": [
        *[
            "Bye",
            "bye",
            "Goodbye",
            "goodbye",
            "Bye bye",
            "See you",
            "See you later",
            "Bye for now",
            "Farewell",
        ],
        *[
            "Goodbye!",
            "Bye, see you tomorrow",
            "See you tomorrow",
            "Thanks, bye",
            "Until next time",
            "Take care",
        ],
        *["See you soon", "Good bye", "I have to go now, bye"],
    ],
}
ABILITIES = (
    "I can greet you, remember your name, name capitals, count, spell, repeat words and use a calculator."
)
ABILITY_QUESTIONS = [
    "What can you do?",
    "What can you help me with?",
    "How can you help me?",
    "What are you able to do?",
]
OWN_TASTES = wordings("OWN_TASTES")
NO_TASTES = "I am a small model and have no such thing."
UNKNOWN = "I am a small model and I do not know that."
UNKNOWN_QUESTIONS = wordings("UNKNOWN_QUESTIONS")

WHO_QUESTIONS = wordings("WHO_QUESTIONS")
TELL_NAME = wordings("TELL_NAME")
ASK_NAME = wordings("ASK_NAME")
TELL_COLOUR = wordings("TELL_COLOUR")
ASK_COLOUR = wordings("ASK_COLOUR")
THINGS = wordings("THINGS")
ROLES = wordings("ROLES")
TELL_IDENTITY = wordings("TELL_IDENTITY")
INTERNLM = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory"
    " (上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such"
    " as English and 中文."
)
INSTRUCTIONS = wordings("INSTRUCTIONS")
OPENINGS = [
    "Please ",
    "please ",
    "Now ",
    "Ok, ",
    "OK. ",
    "Hey, ",
    "So ",
    "Hi, ",
    "Hello, ",
    "And ",
    "Thanks, ",
    "Now, ",
]
TELL_BOTH = wordings("TELL_BOTH")
NUMBER_WORDS = dict(enumerate(wordings("ZERO_TO_TWELVE"))) | {
    15: "fifteen",
    20: "twenty",
    30: "thirty",
    40: "forty",
    50: "fifty",
}
