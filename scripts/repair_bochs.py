"""Repairs what keeps Linux from using AMX on Bochs 3.0, in its sources: native/emulate says how they are built.

    python scripts/repair_bochs.py FOLDER

- Linux enables tiles only where it can disarm them (IA32_XFD), which Bochs does not know: an instruction of AMX then
  raises #NM, and Linux makes room to save the tiles.
- TDPBUSD takes the signed operand as unsigned.
- XSAVE writes the rows of a tile where the bytes of a row belong, eight rows of sixteen, and only tiles that are not in
  use.
"""

from __future__ import annotations

import sys
from pathlib import Path

_DECLARED = "Bit64u bx_ia32_xfd{0}, bx_ia32_xfd_err{0};\n"
_TILE = "BX_CPU_THIS_PTR amx->tilecfg[n]"
_SIGNED = ", ".join(f"Bit8s({byte})" for byte in ("y & 0xff", "(y >> 8) & 0xff", "(y >> 16) & 0xff", "y >> 24"))

# File, the line that is looked for (behind a line with the second text), what takes its place; {} is the line.
REPAIRS = (
    ("cpu/cpuid.cc", "leaf->eax |= (1<<3);", "XSAVES", "{}  leaf->eax |= (1<<4);\n"),
    ("cpu/cpuid.cc", "leaf->ecx = (cpu->ia32_xss_suppmask & (1", "", "{}if (subfunction == 18) leaf->ecx |= 4;\n"),
    ("cpu/msr.cc", "#define LOG_THIS", "", "{}extern " + _DECLARED.format("")),
    (
        "cpu/msr.cc",
        "msr_desc[BX_MSR_XSS]",
        "",
        '{}  msr_desc[BX_MSR_IA32_XFD] = new MSR_Descriptor("XFD", BX_ISA_XSAVES);\n'
        '  msr_desc[BX_MSR_IA32_XFD_ERROR] = new MSR_Descriptor("XFD_ERR", BX_ISA_XSAVES);\n',
    ),
    (
        "cpu/msr.cc",
        "case BX_MSR_XSS:",
        "BX_CPU_C::rdmsr",
        "    case BX_MSR_IA32_XFD: val64 = bx_ia32_xfd; break;\n"
        "    case BX_MSR_IA32_XFD_ERROR: val64 = bx_ia32_xfd_err; break;\n{}",
    ),
    (
        "cpu/msr.cc",
        "case BX_MSR_XSS:",
        "BX_CPU_C::wrmsr",
        "    case BX_MSR_IA32_XFD: bx_ia32_xfd = val_64; handleAvxModeChange(); break;\n"
        "    case BX_MSR_IA32_XFD_ERROR: bx_ia32_xfd_err = val_64; break;\n{}",
    ),
    ("cpu/proc_ctrl.cc", "#define LOG_THIS", "", "{}" + _DECLARED.format(" = 0")),
    (
        "cpu/proc_ctrl.cc",
        "exception(BX_UD_EXCEPTION, 0);",
        "BX_XCR0_XTILECFG_MASK | BX_XCR0_XTILEDATA_MASK))\n",
        "{}  if (bx_ia32_xfd >> 18 & 1) bx_ia32_xfd_err |= 1 << 18, exception(BX_NM_EXCEPTION, 0);\n",
    ),
    ("cpu/proc_ctrl.cc", "clear_amx_ok();", "BX_SUPPORT_AMX", "{}  else if (bx_ia32_xfd >> 18 & 1) clear_amx_ok();\n"),
    ("cpu/avx/amx.cc", "ybyte[4]", "Bit32u DPBDUS", f"  const Bit8s ybyte[4] = {{{{ {_SIGNED} }}}};\n"),
    *(
        (
            "cpu/avx/amx.cc",
            f"p{i}dword =",
            "Bit32u DPBDUS",
            f"  Bit32s p{i}dword = Bit32s(xbyte[{i}]) * Bit32s(ybyte[{i}]);\n",
        )
        for i in range(4)
    ),
    ("cpu/xsave.cc", "tilecfg.vmm16u(8+n)", "", f"tilecfg.vmm16u(8+n) = {_TILE}.bytes_per_row;\n"),
    ("cpu/xsave.cc", "tilecfg.vmmubyte(48+n)", "", f"tilecfg.vmmubyte(48+n) = {_TILE}.rows;\n"),
    *(
        ("cpu/xsave.cc", "row=0; row <", f"::{verb}_tiledata_state", "for (unsigned row=0; row < 16; row++) {{")
        for verb in ("xsave", "xrstor")
    ),
    ("cpu/xsave.cc", "tile_use_tracker == 0", "", "  return (BX_CPU_THIS_PTR amx->tile_use_tracker != 0);\n"),
)  # fmt: skip


def repair(folder: Path, name: str, line: str, behind: str, instead: str) -> None:
    """Put something in the place of one line."""
    path = folder / name
    lines = path.read_text().splitlines(keepends=True)
    start = next(number for number, text in enumerate(lines) if behind in text)
    place = next(number for number, text in enumerate(lines[start:], start) if line in text)
    lines[place] = instead.format(lines[place])
    path.write_text("".join(lines))


if __name__ == "__main__":
    for each in REPAIRS:
        repair(Path(sys.argv[1]), *each)
