"""The page of the paravirtual console. Follows public/io/console.h."""

import ctypes
from ctypes import Array, c_uint8

from hv.abi.layout import Annotated, layout, u32


@layout
class xencons_interface(ctypes.Structure):
    """Two byte rings whose indices run freely."""

    in_: Annotated[Array[c_uint8], 1024]
    out: Annotated[Array[c_uint8], 2048]
    in_cons: u32
    in_prod: u32
    out_cons: u32
    out_prod: u32
