"""Looks into the inner loops of the compiled kernels: sums that go through the stack make them several times slower.

GCC 12 did that with the intrinsics for vpdpbusd, and does not with the instruction written as asm.

    python scripts/check_spills.py build/release [build/aarch64]

The arguments are build folders of native/ (see native/check). The loops are those of `multiply_tile` and of attention's
`score_tile` and `values_tile`, with all rows and columns of a tile, whatever becomes of its sums. Exits with 1 if one
of them touches the stack or lacks an instruction.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Loop:
    """What an inner loop must hold: so many of an instruction."""

    instruction_set: str
    function: str
    instruction: str
    count: int
    objdump: str = "objdump"


_TILE = "multiply_tile<(anonymous namespace)::floats::"
LOOPS = (
    Loop("avx512vnni", "multiply_tile<6, 4", "vpdpbusd", 24),
    Loop("avx512vnni", "Attend::score_tile<6, 4>", "vpdpbusd", 24),
    Loop("avx512vnni", "Attend::values_tile<12, 2>", "vpdpwssd", 24),
    Loop("avxvnni", "multiply_tile<6, 2", r"(\{vex\} )?vpdpbusd", 12),
    Loop("avxvnni", "Attend::score_tile<6, 2>", r"(\{vex\} )?vpdpbusd", 12),
    Loop("avxvnni", "Attend::values_tile<6, 2>", r"(\{vex\} )?vpdpwssd", 12),
    Loop("avx2", "multiply_tile<4, 2", "vpmaddubsw", 16),
    Loop("avx2", "Attend::score_tile<4, 2>", "vpmaddwd", 8),
    Loop("avx2", "Attend::values_tile<4, 2>", "vpmaddwd", 8),
    Loop("neon", "multiply_tile<4, 4", "sdot", 16, "aarch64-linux-gnu-objdump"),
    Loop("neon", "Attend::score_tile<4, 4>", "sdot", 16, "aarch64-linux-gnu-objdump"),
    Loop("neon", "Attend::values_tile<4, 4>", "smlal2", 16, "aarch64-linux-gnu-objdump"),
    Loop("avx512", f"{_TILE}Fp32, 6, 4>", r"vfn?madd\w+", 24),
    Loop("avx512", f"{_TILE}Fp16, 6, 4>", r"vfn?madd\w+", 24),
    Loop("avx512bf16", f"{_TILE}Bf16, 6, 4>", "vdpbf16ps", 24),
    Loop("avx2", f"{_TILE}Fp32, 6, 2>", r"vfn?madd\w+", 12),
    Loop("avx2", f"{_TILE}Fp16, 6, 2>", r"vfn?madd\w+", 12),
)
_STACK = re.compile(r"%rsp|%rbp|\[sp\b|\[x29\b")
_JUMP = re.compile(r"^(?:j\w+|b\.\w+|cbn?z|b)\s+(?:\w+, )?([0-9a-f]+)\b")
Instruction = tuple[int, str]


def main() -> None:
    folders = [Path(argument) for argument in sys.argv[1:]]
    problems = []
    for loop in LOOPS:
        found = [path for folder in folders for path in folder.rglob(f"isa/{loop.instruction_set}.cpp.o")]
        for path in found:
            problem = examine(loop, path)
            print(f"{loop.instruction_set:<11} {loop.function:<22} {problem or f'{loop.count} in registers'}")
            problems += [problem] if problem else []
        if not found:
            print(f"{loop.instruction_set:<11} {loop.function:<22} not built here")
    sys.exit(bool(problems))


def examine(loop: Loop, path: Path) -> str:
    """What is wrong with a loop; empty if nothing is."""
    bodies = [body for function in functions(loop, path) for body in inner_loops(function)]
    counts = [sum(bool(re.match(loop.instruction, text)) for _, text in body) for body in bodies]
    if loop.count not in counts:
        return f"no inner loop with {loop.count} x {loop.instruction}, but with {sorted(counts) or 'none'}"
    full = [text for body, count in zip(bodies, counts, strict=True) if count == loop.count for _, text in body]
    return next((f"touches the stack: {text}" for text in full if _STACK.search(text)), "")


def functions(loop: Loop, path: Path) -> list[list[Instruction]]:
    """The instructions of every function whose name begins so: with each finish, copies among them."""
    command = [loop.objdump, "-d", "-C", "--no-show-raw-insn", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    blocks = re.split(r"\n(?=[0-9a-f]+ <)", text)
    name = re.compile(rf"::{re.escape(loop.function)}[(,]")
    return [_instructions(block) for block in blocks if name.search(block.partition("\n")[0])]


def _instructions(block: str) -> list[Instruction]:
    lines = (re.match(r"\s+([0-9a-f]+):\s+(.*)", line) for line in block.splitlines())
    return [(int(line[1], 16), line[2].strip()) for line in lines if line]


def inner_loops(function: list[Instruction]) -> list[list[Instruction]]:
    """Runs of instructions from the target of a jump back to the jump, that hold no other such run."""
    spans = []
    for address, text in function:
        jump = _JUMP.match(text)
        if jump and int(jump[1], 16) <= address:
            spans.append((int(jump[1], 16), address))
    inner = [span for span in spans if not any(span != o and span[0] <= o[0] and o[1] <= span[1] for o in spans)]
    return [[item for item in function if start <= item[0] <= end] for start, end in inner]


if __name__ == "__main__":
    main()
