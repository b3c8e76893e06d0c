"""A task of OpenCompass: three questions, exact answers. Run by test_opencompass.py: python … CONFIG FOLDER."""

import json
import sys

from datasets import Dataset, DatasetDict
from opencompass.openicl.icl_dataset_reader import DatasetReader
from opencompass.openicl.icl_evaluator import EMEvaluator
from opencompass.openicl.icl_inferencer import GenInferencer
from opencompass.openicl.icl_prompt_template import PromptTemplate
from opencompass.openicl.icl_retriever import ZeroRetriever
from opencompass_model import LagentLLM

ANSWERS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo"}


def main(config, folder):
    rows = Dataset.from_list([{"question": key, "answer": value} for key, value in ANSWERS.items()])
    reader = DatasetReader(DatasetDict(train=rows, test=rows), ["question"], "answer")

    class Dummy:
        pass

    dataset = Dummy()
    dataset.reader, dataset.train, dataset.test = reader, rows, rows
    turns = [{"role": "HUMAN", "prompt": "What is the capital of {question}?"}, {"role": "BOT", "prompt": "{answer}"}]
    template = PromptTemplate(template={"round": turns})
    model = LagentLLM(config)
    inferencer = GenInferencer(model, max_out_len=32, batch_size=2, output_json_filepath=folder)
    said = inferencer.inference(ZeroRetriever(dataset), prompt_template=template)
    said = [text.removesuffix(".").rpartition(" ")[2] for text in said]
    print(json.dumps({"said": said, **EMEvaluator().score(said, list(ANSWERS.values()))}, default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
