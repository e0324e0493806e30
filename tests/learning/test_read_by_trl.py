"""What is exported trains a model: TRL's own functions over its datasets read each row, and each trainer takes a step.

Skipped where TRL (and with it torch) is not installed: `pip install trl`.
"""

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("torch")
pytest.importorskip("trl")

import datasets
import tokenizers
import trl
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from hitl_graph.learning.export import export
from tests.learning.made import call, every_kind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # theirs are not ours to fail over
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """One of bytes, with the chat template of a model that calls tools."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(special_tokens=specials, initial_alphabet=alphabet, vocab_size=300)
    made.train_from_iterator(["a call of a tool"], trainer)
    found = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    found.chat_template = (Path(trl.__file__).parent / "chat_templates" / "qwen2_5.jinja").read_text()
    return found


@pytest.fixture
def model(tokenizer: Any, tmp_path: Path) -> str:
    """A tiny one, untrained."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, **sizes)
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def exported(name: str, tmp_path: Path) -> Any:
    several = [*every_kind(), call("b1", tool="search", output={"q": "x", "eur": "5"}), call("b2", "reject")]
    count = export(several, name, tmp_path / "out").written
    found = datasets.load_dataset(
        "json", data_files=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(found) == count > 0
    return found


@pytest.mark.parametrize("name", ["trl-sft", "trl-dpo", "trl-kto"])
def test_each_row_is_a_conversation_that_a_template_renders(name: str, tmp_path: Path, tokenizer: Any) -> None:
    for row in exported(name, tmp_path):
        assert trl.is_conversational(row)
        told = trl.apply_chat_template(row, tokenizer)
        assert told["prompt"].endswith("<|im_start|>assistant\n")
        if row["id"] == "a1":
            assert '{"name": "pay", "arguments": {"eur": 5, "to": "bob"}}' in told["completion"]
        if row["id"] == "b1":
            assert '{"name": "search", "arguments": {"q": "x", "eur": "5"}}' in told["completion"]


def test_pairs_can_be_taken_apart(tmp_path: Path) -> None:
    apart = trl.unpair_preference_dataset(exported("trl-dpo", tmp_path).remove_columns("id"))
    assert sorted(apart["label"]) == [False] * 3 + [True] * 3


@pytest.mark.parametrize("name", ["SFT", "DPO", "KTO"])
def test_a_trainer_takes_a_step(name: str, tmp_path: Path, tokenizer: Any, model: str) -> None:
    own = {"per_device_train_batch_size": 2, "max_steps": 1, "report_to": [], "use_cpu": True, "bf16": False}
    config = getattr(trl, f"{name}Config")(output_dir=str(tmp_path / "trained"), save_strategy="no", **own)
    data = exported(f"trl-{name.lower()}", tmp_path)
    trainer = getattr(trl, f"{name}Trainer")(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    assert len(trainer.train_dataset) == len(data)
    done = trainer.train()
    assert done.global_step == 1
    assert done.training_loss > 0
