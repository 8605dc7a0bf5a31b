"""The inner loops as machine code: compiled once for each kind of processor, then cached.

numba compiles :mod:`~sws.codec.matrix_coding` and :mod:`~sws.codec.raw_coding` and takes ten to
twenty seconds; importing it takes a third of one, too long for reading a small file. So what it
made is kept as an object file, which llvmlite, numba's own compiler, loads by itself in a
twentieth.

The cache lies beside this file, or in the user's cache folder where that cannot be written. Its
name tells sources, versions and processor, so that nothing stale or foreign is loaded; a file
appears whole or not at all, so that processes may start at once. Where nothing can be kept, each
process compiles; where there is no numba, the same functions run as plain Python, slowly, and give
the same bytes. ``SWS_CODEC=python`` asks for that.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sws.codec import bit_coding, matrix_coding, raw_coding
from sws.files import write_bytes

MODULES = (bit_coding, matrix_coding, raw_coding)
CODE_MATRIX = ("code_matrix", ("int64", "uint16", "int64", "uint8", "uint16"))
CODE_RAW = ("code_raw", ("int64", "uint16", "int64", "uint8", "int64", "int64"))


class Kernels(NamedTuple):
    """The two inner loops, and how they run: ``machine code``, ``numba`` or ``python``."""

    code_matrix: Callable
    code_raw: Callable
    kind: str


@functools.cache
def kernels() -> Kernels:
    """The fastest inner loops to be had here."""
    if os.environ.get("SWS_CODEC") == "python":
        return interpreted()
    try:
        return _machine_code()
    except ImportError:
        return interpreted()
    except Exception:  # a compiler whose insides are not those we know
        try:
            return _just_in_time()
        except ImportError:
            return interpreted()


def interpreted() -> Kernels:
    """The reference: the same functions in plain Python, on lists."""

    def on_lists(function: Callable) -> Callable:
        def run(*arrays: np.ndarray) -> None:
            lists = [array.tolist() for array in arrays]
            function(*lists)
            for array, values in zip(arrays, lists, strict=True):
                if array.dtype == np.int64:  # a uint64 may have been put together
                    values = [((v + 2**63) % 2**64) - 2**63 for v in values]
                array[:] = values

        return run

    return Kernels(on_lists(matrix_coding.code_matrix), on_lists(raw_coding.code_raw), "python")


def _just_in_time() -> Kernels:
    namespace = _namespace()
    return Kernels(namespace["code_matrix"], namespace["code_raw"], "numba")


def _namespace() -> dict:
    """All functions of the three modules, each to be compiled when it is first called."""
    import numba

    namespace: dict = {}
    for module in MODULES:
        namespace |= {k: v for k, v in vars(module).items() if k.isupper()}
    for module in MODULES:
        for name, function in vars(module).items():
            if isinstance(function, types.FunctionType) and function.__module__ == module.__name__:
                copy = types.FunctionType(function.__code__, namespace, name)
                namespace[name] = numba.njit(error_model="numpy")(copy)
    return namespace


def _machine_code() -> Kernels:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=3, codemodel="jitdefault", jit=True
    )
    name = f"{cpu}-{_fingerprint(cpu, features)}.o"
    data = _cached(name)
    if data is None:
        data = _compile(llvm, machine)
        _keep(name, data)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return Kernels(_callable(engine, *CODE_MATRIX), _callable(engine, *CODE_RAW), "machine code")


def _fingerprint(cpu: str, features: str) -> str:
    import llvmlite

    content = hashlib.sha256()
    for module in (*MODULES, sys.modules[__name__]):
        content.update(Path(str(module.__file__)).read_bytes())
    content.update(repr((llvmlite.__version__, sys.version, cpu, features)).encode())
    return content.hexdigest()[:24]


def _folders() -> list[Path]:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [Path(__file__).parent / "__pycache__", Path(home) / "sws"]


def _cached(name: str) -> bytes | None:
    """What is kept under that name, if it is ours: machine code of somebody else is not run."""
    for folder in _folders():
        path = folder / name
        try:
            owner = path.stat().st_uid
            data = path.read_bytes()
        except OSError:
            continue
        whole = data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None
        if whole and (not hasattr(os, "geteuid") or owner in (0, os.geteuid())):
            return whole
    return None


def _keep(name: str, data: bytes) -> None:
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(folder / name, hashlib.sha256(data).digest() + data)
            return
        except OSError:
            continue


def _compile(llvm, machine) -> bytes:
    """An object file with both loops, by numba; raises if it would need anything from outside."""
    from numba.core import compiler, registry
    from numba.core import types as nb

    namespace = _namespace()
    flags = compiler.Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    whole = None
    for name, dtypes in (CODE_MATRIX, CODE_RAW):
        arguments = tuple(nb.Array(getattr(nb, dtype), 1, "C") for dtype in dtypes)
        made = compiler.compile_extra(
            registry.cpu_target.typing_context, registry.cpu_target.target_context,
            namespace[name].py_func, arguments, nb.none, flags, {},
        )  # fmt: skip
        text = str(made.library._final_module).replace(made.fndesc.llvm_func_name, f"sws_{name}")
        module = llvm.parse_assembly(text)
        if whole is None:
            whole = module
        else:
            whole.link_in(module)
    needed = [f.name for f in whole.functions if f.is_declaration and "llvm." not in f.name]
    if set(needed) - {"memset", "memcpy", "memmove"}:
        raise RuntimeError(f"compiled loops need {needed}")
    return machine.emit_object(whole)


def _callable(engine, name: str, dtypes: tuple[str, ...]) -> Callable:
    """A function of arrays, called as numba calls: where results and errors go, then each array as
    two owners, number of values, bytes of one, address, length and stride."""
    array = (ctypes.c_void_p,) * 2 + (ctypes.c_int64,) * 2 + (ctypes.c_void_p,)
    array += (ctypes.c_int64,) * 2
    address = engine.get_function_address(f"sws_{name}")
    if not address:
        raise RuntimeError(f"{name} is not in the object file")
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *array * len(dtypes))
    function = kind(address)
    kinds = [np.dtype(dtype) for dtype in dtypes]

    def run(*arrays: np.ndarray) -> None:
        passed: list[int | None] = []
        for a, dtype in zip(arrays, kinds, strict=True):
            if a.dtype != dtype or a.ndim != 1 or not a.flags.c_contiguous:
                raise TypeError(f"{name} takes flat arrays of {dtypes}")
            passed += [None, None, a.size, a.itemsize, a.ctypes.data, a.size, a.itemsize]
        result, error = ctypes.c_void_p(), ctypes.c_void_p()
        if function(ctypes.addressof(result), ctypes.addressof(error), *passed):
            raise RuntimeError(f"{name} failed")

    run.engine = engine  # type: ignore[attr-defined]  # the code lives as long as it
    return run
