"""Entry points of a PV guest. Follows public/callback.h."""

import ctypes

from hv.abi.layout import layout, u16, u64

CALLBACKTYPE_event = 0
CALLBACKTYPE_failsafe = 1
CALLBACKTYPE_syscall = 2
CALLBACKTYPE_nmi = 4
CALLBACKTYPE_sysenter = 5
CALLBACKTYPE_syscall32 = 7

_CALLBACKF_mask_events = 0
CALLBACKF_mask_events = 1 << _CALLBACKF_mask_events

CALLBACKOP_register = 0
CALLBACKOP_unregister = 1


@layout
class callback_register(ctypes.Structure):
    """`type` is CALLBACKTYPE_*, `flags` CALLBACKF_*."""

    type: u16
    flags: u16
    address: u64


@layout
class callback_unregister(ctypes.Structure):
    """`type` is CALLBACKTYPE_*."""

    type: u16
    _unused: u16
