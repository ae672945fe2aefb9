#!/usr/bin/env python3
"""The training step of `essaim bench` in PyTorch, float32: what somebody would use instead.

The same model (untied Llama), batch and work: forward, mean cross entropy, backward, clipping by the global norm, AdamW.
TF32 is off, so that both sides do float32 arithmetic. Prints one JSON line.

    python3 benches/torch_step.py --config 8m --device cuda --compile
    python3 benches/torch_step.py --config 8m --threads 2
    python3 benches/torch_step.py --products --device cuda      float32 matrix products of the models, instead of a step

Timing: a step is timed from its start until the device is done with it. On a device the loss stays there, and is read once at the end.
With --seconds it warms up for a second and measures for so long. Where heads share keys and values, a CUDA device takes both ways of
saying so (enable_gqa, and keys and values repeated), and the faster counts.
"""
import argparse
import itertools
import json
import statistics
import sys
import time

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    sys.exit("PyTorch is not installed: pip install torch numpy")

# name: width, layers, heads, key/value heads, feed-forward width, vocabulary, context, batch
MODELS = {
    "2m": (128, 4, 4, 2, 384, 4096, 256, 8),
    "8m": (256, 4, 4, 4, 1024, 16384, 256, 8),
    "60m": (512, 8, 8, 4, 1536, 32000, 512, 4),
}


def linear(inputs, outputs):
    return torch.nn.Linear(inputs, outputs, bias=False)


class Attention(torch.nn.Module):
    # Whether shared keys and values are repeated for each head, instead of leaving that to PyTorch.
    repeat = False

    def __init__(self, width, heads, kv_heads):
        super().__init__()
        self.heads, self.kv_heads, self.head = heads, kv_heads, width // heads
        self.query, self.out = linear(width, width), linear(width, width)
        self.key, self.value = linear(width, kv_heads * self.head), linear(width, kv_heads * self.head)

    def forward(self, x, cos, sin):
        batch, context, width = x.shape

        def heads(y, count, rotate):
            y = y.view(batch, context, count, self.head).transpose(1, 2)
            if not rotate:
                return y
            low, high = y[..., : self.head // 2], y[..., self.head // 2 :]
            return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1)

        q = heads(self.query(x), self.heads, True)
        k = heads(self.key(x), self.kv_heads, True)
        v = heads(self.value(x), self.kv_heads, False)
        shared = self.kv_heads < self.heads
        if shared and self.repeat:
            k, v = (y.repeat_interleave(self.heads // self.kv_heads, dim=1) for y in (k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared and not self.repeat)
        return self.out(mixed.transpose(1, 2).reshape(batch, context, width))


class Layer(torch.nn.Module):
    def __init__(self, width, heads, kv_heads, ffn):
        super().__init__()
        self.before_attention, self.before_ffn = torch.nn.RMSNorm(width, eps=1e-5), torch.nn.RMSNorm(width, eps=1e-5)
        self.attention = Attention(width, heads, kv_heads)
        self.gate, self.up, self.down = linear(width, ffn), linear(width, ffn), linear(ffn, width)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.before_attention(x), cos, sin)
        y = self.before_ffn(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(torch.nn.Module):
    def __init__(self, width, layers, heads, kv_heads, ffn, vocabulary, context):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        self.layers = torch.nn.ModuleList(Layer(width, heads, kv_heads, ffn) for _ in range(layers))
        self.norm, self.head = torch.nn.RMSNorm(width, eps=1e-5), linear(width, vocabulary)
        half = width // heads // 2
        angles = torch.outer(torch.arange(context).double(), 1e4 ** (-torch.arange(half).double() / half))
        self.register_buffer("cos", angles.cos().float())
        self.register_buffer("sin", angles.sin().float())

    def forward(self, inputs, targets):
        x = self.embedding(inputs)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def clock(device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def step_time(args, device):
    """The step's figures; on a CUDA device those of the faster way to share keys and values."""
    _, _, heads, kv_heads, *_ = MODELS[args.config]
    both = device.type == "cuda" and kv_heads < heads
    results = []
    for Attention.repeat in [False, True] if both else [False]:
        results.append(dict(step_time_of(args, device), repeated_kv=Attention.repeat))
        torch.compiler.reset()
    return max(results, key=lambda result: result["tokens_per_s"])


def step_time_of(args, device):
    width, layers, heads, kv_heads, ffn, vocabulary, context, batch = MODELS[args.config]
    model = Llama(width, layers, heads, kv_heads, ffn, vocabulary, context).to(device)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    forward = torch.compile(model) if args.compile else model
    walls, processor = [], []
    warm, measured = None, None
    for step in itertools.count():
        now = time.perf_counter()
        if step == 1:
            # The first step compiles.
            warm = now + (1.0 if args.seconds else 0.0)
        if measured is None and step >= args.warmup and (warm is None or now >= warm):
            measured = now
        if len(walls) >= args.steps and (not args.seconds or now >= measured + args.seconds):
            break
        tokens = torch.randint(0, vocabulary, (batch, context + 1))
        start, busy = clock(device), time.process_time()
        tokens = tokens.to(device)
        loss = forward(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        end = clock(device)
        if measured is not None:
            walls.append(end - start)
            processor.append(time.process_time() - busy)
    wall = statistics.median(walls)
    return {
        "engine": f"torch {torch.__version__} {'compiled' if args.compile else 'eager'}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "config": args.config,
        "parameters": sum(p.numel() for p in parameters),
        "threads": torch.get_num_threads(),
        "tokens_per_step": batch * context,
        "steps": len(walls),
        "wall_s": round(wall, 6),
        "cpu_s": round(statistics.median(processor), 6),
        "tokens_per_s": round(batch * context / wall, 1),
        "loss": round(float(loss.detach()), 4),
    }


def products(args, device):
    """Products C[m, n] as JSON lines on standard input ask for them: layout, m, n, k. One JSON line for each, with its speed."""
    def uniform(*shape):
        # As device_products.rs: what is multiplied decides how much power a card takes, and so its clock.
        return torch.rand(shape, device=device) * 2 - 1

    if args.seconds:
        x, end = uniform(2048, 2048), time.perf_counter() + 1.0
        while clock(device) < end:
            for _ in range(10):
                torch.mm(x, x)
    for line in sys.stdin:
        if not line.strip():
            continue
        want = json.loads(line)
        layout, m, n, k = want["layout"], want["m"], want["n"], want["k"]
        a = uniform(k, m) if layout[0] == "T" else uniform(m, k)
        b = uniform(n, k) if layout[1] == "T" else uniform(k, n)
        a, b = (a.t() if layout[0] == "T" else a), (b.t() if layout[1] == "T" else b)
        out = torch.empty((m, n), device=device)
        walls = []
        repeat = max(1, min(200, int(2e10 / (2 * m * n * k))))
        for _ in range(args.warmup + args.steps):
            start = clock(device)
            for _ in range(repeat):
                torch.mm(a, b, out=out)
            walls.append((clock(device) - start) / repeat)
        seconds = statistics.median(walls[args.warmup :])
        print(json.dumps({"layout": layout, "m": m, "n": n, "k": k, "flops_per_s": 2 * m * n * k / seconds}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", choices=MODELS, default="8m")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seconds", type=float, help="warm up for a second, and measure for so long, --steps at least")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--products", action="store_true", help="read products from standard input, one JSON object a line")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    torch.manual_seed(0)
    device = torch.device(args.device)
    if args.products:
        products(args, device)
    else:
        print(json.dumps(step_time(args, device)))


if __name__ == "__main__":
    main()
