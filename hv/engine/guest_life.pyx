# cython: language_level=3
"""A domain's life: turns, pauses, watchdogs, shutdown, crash, and its hypercalls' way to Python."""
from libc.stdint cimport uint32_t, uint64_t
from hv.engine.clock cimport rearm
from hv.engine.guest_grants cimport GuestGrants
from hv.engine.unicorn cimport *
from hv.fastpath.domain cimport crash, fix_shutdown_code, shutdown
from hv.fastpath.now cimport system_time, ticks_of
from hv.fastpath.scheduler cimport set_cap
from hv.fastpath.state cimport *
from hv.fastpath.vcpu cimport sleep, wake

from hv.errors import EngineError


cdef class GuestLife(GuestGrants):
    """Whether it runs, how long its turns are, and how it ends."""

    def set_watchdog(self, int index, uint64_t seconds):
        """Let watchdog 0 or 1 end the domain in so many seconds."""
        self._live().watchdog[index & 1] = ticks_of(system_time(self.d.machine) + seconds * 1000000000) or 1
        rearm(self.d.machine)

    def stop_watchdog(self, int index):
        self._live().watchdog[index & 1] = 0
        rearm(self.d.machine)

    def watchdog_in_use(self, int index):
        return self._live().watchdog[index & 1] != 0

    def shut_down(self, int code):
        """SCHEDOP_shutdown with one of Xen's SHUTDOWN_* codes."""
        shutdown(self._live(), code)

    def resume(self, uint64_t result):
        """After a shutdown: the vCPU that asked for it goes on, with `result` from its hypercall."""
        cdef domain_t *d = self._live()
        if not d.dying or d.crashed or d.current == NULL:
            raise EngineError("this domain has not shut down")
        d.dying = d.shutdown_said = d.shutdown_code = 0
        (<hv_env *>d.env).regs[RAX] = result

    def fix_shutdown_code(self, int code):
        """The domain will end with this code, whoever shuts it down; the first code counts."""
        fix_shutdown_code(self._live(), code)

    def crash(self, str reason):
        """End the domain because of something it did."""
        crash(self._live(), reason.encode())

    @property
    def ended(self):
        return bool(self._live().dying)

    @property
    def crashed(self):
        return bool(self._live().crashed)

    @property
    def shutdown_code(self):
        return self._live().shutdown_code

    @property
    def reason(self):
        return self._live().reason.decode(errors="replace")

    @property
    def crash_address(self):
        """The address whose page walk explains the crash, or None."""
        return self._live().crash_cr2 if self._live().crash_has_cr2 else None

    @property
    def weight(self):
        """Its share of the processor, 1 to 65535; 256 is usual."""
        return self._live().weight

    @weight.setter
    def weight(self, uint32_t value):
        if not 1 <= value <= 65535:
            raise EngineError(f"a weight of {value} is not possible: choose 1 to 65535")
        self._live().weight = value

    @property
    def cap(self):
        """How much of the processor it may have at most, in %; 0 is no limit."""
        return self._live().cap

    @cap.setter
    def cap(self, uint32_t percent):
        set_cap(self._live(), percent)
        rearm(self.d.machine)

    @property
    def paused(self):
        return bool(self._live().paused)

    @paused.setter
    def paused(self, bint value):
        cdef uint32_t i
        self._live().paused = value
        for i in range(self.d.nr_vcpus):
            if value:
                sleep(&self.d.vcpus[i])
            else:
                wake(&self.d.vcpus[i])

    def dispatch(self, uint32_t vcpu, uint64_t number, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                 uint64_t a5):
        return self.handler(vcpu, number, a0, a1, a2, a3, a4, a5)
