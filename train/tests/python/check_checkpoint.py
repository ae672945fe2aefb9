#!/usr/bin/env python3
"""Loads a checkpoint folder with the packages that people use, and checks what they read.

    python check_checkpoint.py FOLDER

Needs `safetensors` and `numpy`; with `tokenizers` and `transformers` it also loads tokenizer and configuration. Prints one line of JSON:
the number of parameters, and which packages loaded what. Exits 1 with the reason when something is wrong.
"""
import json
import pathlib
import sys


def expected_shapes(config):
    """Shapes of a Llama's tensors by Hugging Face name."""
    d, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": [vocab, d], "model.norm.weight": [d]}
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        shapes[block + "input_layernorm.weight"] = [d]
        shapes[block + "post_attention_layernorm.weight"] = [d]
        for name, shape in {"q": [d, d], "k": [kv, d], "v": [kv, d], "o": [d, d]}.items():
            shapes[f"{block}self_attn.{name}_proj.weight"] = shape
        for name, shape in {"gate": [ffn, d], "up": [ffn, d], "down": [d, ffn]}.items():
            shapes[f"{block}mlp.{name}_proj.weight"] = shape
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = [vocab, d]
    return shapes


def check(folder):
    import numpy
    from safetensors import safe_open

    config = json.loads((folder / "config.json").read_text("utf-8"))
    loaded = ["safetensors"]
    parameters = 0
    with safe_open(folder / "model.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}, f"metadata is {file.metadata()}"
        shapes = expected_shapes(config)
        names = set(file.keys())
        assert names == set(shapes), f"tensors that differ: {sorted(names ^ set(shapes))}"
        for name, shape in shapes.items():
            tensor = file.get_tensor(name)
            assert list(tensor.shape) == shape, f"{name} has shape {list(tensor.shape)}, not {shape}"
            assert tensor.dtype == numpy.float32, f"{name} is {tensor.dtype}"
            assert numpy.isfinite(tensor).all(), f"{name} is not finite"
            parameters += tensor.size
    result = {"parameters": parameters}
    if (folder / "tokenizer.json").exists():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        assert tokenizer.get_vocab_size() <= config["vocab_size"], "more tokens than rows of the embedding"
        assert tokenizer.token_to_id("<s>") == config["bos_token_id"]
        assert tokenizer.token_to_id("</s>") == config["eos_token_id"]
        text = "Une forêt, en été : 12 chênes — et des œillets."
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text, f"{text!r} came back as {tokenizer.decode(ids)!r}"
        loaded.append("tokenizers")
    try:
        import transformers
    except ImportError:
        transformers = None
    if transformers:
        read = transformers.AutoConfig.from_pretrained(folder)
        assert read.model_type == "llama" and read.architectures == ["LlamaForCausalLM"]
        assert read.tie_word_embeddings == config["tie_word_embeddings"]
        assert read.head_dim == config["head_dim"] and read.rms_norm_eps == config["rms_norm_eps"]
        theta = getattr(read, "rope_theta", None) or read.rope_parameters["rope_theta"]
        assert theta == config["rope_theta"], f"rope_theta is read as {theta}"
        if "tokenizers" in loaded:
            fast = transformers.AutoTokenizer.from_pretrained(folder)
            assert fast.bos_token_id == config["bos_token_id"] and fast.eos_token_id == config["eos_token_id"]
            assert fast.pad_token_id == 3, f"pad is {fast.pad_token_id}"
        loaded.append("transformers")
    return {**result, "loaded": loaded}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(json.dumps(check(pathlib.Path(sys.argv[1]))))
    except AssertionError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
