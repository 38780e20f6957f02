/* Preloaded into Debian's unmodified xenstored 4.17, so that it runs without Xen: tests/real/xenstored.py.

   What it asks of Xen has an answer: every domain exists, and its ring page is a file ring.N of the current folder. Event
   channels never fire. The daemon's own folder is the current one: XENSTORED_RUNDIR says so for its socket. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <xenctrl.h>

static void *page(unsigned int domid)
{
    char name[32];
    int file;
    void *address;

    snprintf(name, sizeof name, "ring.%u", domid);
    file = open(name, O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, 4096))
        return NULL;
    address = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return address == MAP_FAILED ? NULL : address;
}

/* /proc/xen tells domain 0's own port and ring. */
static int opened(const char *next, const char *path, int flags, int mode)
{
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, next);
    int file;

    if (!strcmp(path, "/proc/xen/xsd_kva"))
        return page(0) ? real("ring.0", O_RDWR) : -1;
    if (strcmp(path, "/proc/xen/xsd_port"))
        return real(path, flags, mode);
    file = real("port.0", O_RDWR | O_CREAT | O_TRUNC, 0600);
    return write(file, "1", 1) == 1 && !lseek(file, 0, SEEK_SET) ? file : -1;
}

#define OPEN(name)                                  \
    int name(const char *path, int flags, ...)      \
    {                                               \
        va_list more;                               \
        int mode;                                   \
        va_start(more, flags);                      \
        mode = va_arg(more, int);                   \
        va_end(more);                               \
        return opened(#name, path, flags, mode);    \
    }
OPEN(open)
OPEN(open64)

int setrlimit(__rlimit_resource_t which, const struct rlimit *limit) { return 0; }
int setrlimit64(__rlimit_resource_t which, const struct rlimit64 *limit) { return 0; }

static int pipes[2] = { -1, -1 }; /* an event channel device on which nothing ever comes */
static int ports = 10;

void *xenevtchn_open(void *log, unsigned int flags)
{
    return pipes[0] >= 0 || !pipe(pipes) ? pipes : NULL;
}
void *xenevtchn_fdopen(void *log, int file, unsigned int flags) { return xenevtchn_open(log, flags); }
int xenevtchn_fd(void *handle) { return pipes[0]; }
int xenevtchn_close(void *handle) { return 0; }
int xenevtchn_bind_interdomain(void *handle, uint32_t domid, uint32_t port) { return ports++; }
int xenevtchn_bind_virq(void *handle, unsigned int virq) { return ports++; }
int xenevtchn_unbind(void *handle, uint32_t port) { return 0; }
int xenevtchn_notify(void *handle, uint32_t port) { return 0; }
int xenevtchn_pending(void *handle) { return -1; }
int xenevtchn_unmask(void *handle, uint32_t port) { return 0; }

void *xengnttab_open(void *log, unsigned int flags) { return &ports; }
int xengnttab_close(void *handle) { return 0; }
int xengnttab_set_max_grants(void *handle, uint32_t count) { return 0; }
void *xengnttab_map_grant_ref(void *handle, uint32_t domid, uint32_t ref, int protection) { return page(domid); }
int xengnttab_unmap(void *handle, void *address, uint32_t count) { return munmap(address, 4096 * count); }

xc_interface *xc_interface_open(xentoollog_logger *a, xentoollog_logger *b, unsigned int flags) { return (void *)&ports; }
int xc_interface_close(xc_interface *handle) { return 0; }
void *xc_map_foreign_range(xc_interface *handle, uint32_t domid, int size, int protection, unsigned long frame)
{
    return page(domid);
}
int xc_domain_getinfo(xc_interface *handle, uint32_t first, unsigned int most, xc_dominfo_t *info)
{
    memset(info, 0, sizeof *info);
    info->domid = first;
    info->running = 1;
    return 1;
}
