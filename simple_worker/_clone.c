/* Starts a process without waiting until it executes its program.
 *
 * vfork stops the one who starts until the new process has called execve, which is most of what a short
 * job costs it. Here the new process shares the memory of this one as well (CLONE_VM), and so costs as
 * little, but runs beside it, on a stack of its own. Until its execve it makes system calls alone: no
 * function of libc, whose thread-local data it would share. Linux 5.9 or newer.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACK 16384           /* bytes; what runs on it calls nothing */
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#define NAME "simple_worker._clone.Beginning"

/* Of one new process, until it executes its program: one block of memory, its stack in front. */
typedef struct {
    int tid;                  /* the kernel sets it to 0 when the block is not used any more */
    int error;                /* why it could not execute: an errno */
    int in, out, err;
    uint64_t mask;            /* the signals that it begins with blocked */
    const char *cwd;          /* NULL: where this process is */
    char **files, **argv, **envp;
} Beginning;

static long call(long number, long a, long b, long c, long d) {
    long result;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
                  x2 __asm__("x2") = c, x3 __asm__("x3") = d;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    result = x0;
#else
#error "not written for this processor: processes are started with subprocess.Popen"
#endif
    return result;
}

/* What clone3 takes, as in linux/sched.h. */
typedef struct {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
} CloneArgs;

/* clone3, for which libc has no function: the new process runs `run(argument)`, on its stack. */
static long clone_to_run(CloneArgs *args, void (*run)(void *), void *argument) {
    long result;
#if defined(__x86_64__)
    __asm__ volatile("syscall\n\t"
                     "test %%rax, %%rax\n\t"
                     "jnz 1f\n\t"
                     "mov %[argument], %%rdi\n\t"
                     "call *%[run]\n\t"
                     "1:"
                     : "=a"(result)
                     : "a"(SYS_clone3), "D"(args), "S"(sizeof *args), [run] "r"(run),
                       [argument] "r"(argument)
                     : "rcx", "r11", "memory", "cc");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = SYS_clone3, x0 __asm__("x0") = (long)args,
                  x1 __asm__("x1") = sizeof *args;
    __asm__ volatile("svc 0\n\t"
                     "cbnz x0, 1f\n\t"
                     "mov x0, %[argument]\n\t"
                     "blr %[run]\n\t"
                     "1:"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), [run] "r"(run), [argument] "r"(argument)
                     : "memory", "cc");
    result = x0;
#endif
    return result;
}

/* Have `descriptor` as `number` after execve. It is above all numbers, or is copied first. */
static void place(int descriptor, int number) {
    if (descriptor == number)
        call(SYS_fcntl, number, F_SETFD, 0, 0);
    else
        call(SYS_dup3, descriptor, number, 0, 0);
}

/* Zeros are what a signal means by default, whatever follows the handler. */
typedef struct {
    void *handler;
    unsigned long rest[4];
} Action;

/* Python ignores these, and Popen(restore_signals=True) does the same. */
static void restore(int number) {
    Action by_default = {0};
    call(SYS_rt_sigaction, number, (long)&by_default, 0, sizeof(uint64_t));
}

static void child(void *argument) {
    Beginning *self = argument;
    long result = 0;
    restore(SIGPIPE);
    restore(SIGXFSZ);
    call(SYS_setsid, 0, 0, 0, 0);
    place(self->in, 0);
    place(self->out, 1);
    place(self->err, 2);
    call(SYS_close_range, 3, ~0U, 0, 0);
    call(SYS_rt_sigprocmask, SIG_SETMASK, (long)&self->mask, 0, sizeof self->mask);
    if (self->cwd) result = call(SYS_chdir, (long)self->cwd, 0, 0, 0);
    if (result == 0) {
        /* Along a PATH, what is there and may not be executed is told of before what is not. */
        long found = 0;
        for (char **file = self->files; *file; file++) {
            result = call(SYS_execve, (long)*file, (long)self->argv, (long)self->envp, 0);
            if (found == 0 && result != -ENOENT && result != -ENOTDIR) found = result;
        }
        if (found != 0) result = found;
    }
    self->error = (int)-result;
    for (;;) call(SYS_exit_group, 127, 0, 0, 0);
}

/* Sleep until the new process shares this memory no more. */
static void wait_until_gone(Beginning *self) {
    int tid;
    while ((tid = __atomic_load_n(&self->tid, __ATOMIC_ACQUIRE)) != 0)
        syscall(SYS_futex, &self->tid, FUTEX_WAIT, tid, NULL, NULL, 0);
}

static char *stack_of(Beginning *self) { return (char *)self - STACK; }

static void discard(PyObject *capsule) {
    Beginning *self = PyCapsule_GetPointer(capsule, NAME);
    wait_until_gone(self);
    free(stack_of(self));
}

/* --- the memory of one --- */

/* Bytes objects for what is str, in a new list; NULL with an error set. */
static PyObject *encoded(PyObject *texts, Py_ssize_t *size) {
    PyObject *items = PySequence_Fast(texts, "a sequence of str is needed");
    if (!items) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    PyObject *result = PyList_New(count);
    *size += (count + 1) * sizeof(char *);
    for (Py_ssize_t i = 0; result && i < count; i++) {
        PyObject *bytes = NULL;
        if (!PyUnicode_FSConverter(PySequence_Fast_GET_ITEM(items, i), &bytes)) {
            Py_CLEAR(result);  /* a NUL in it, too, is a ValueError */
            break;
        }
        *size += PyBytes_GET_SIZE(bytes) + 1;
        PyList_SET_ITEM(result, i, bytes);
    }
    Py_DECREF(items);
    return result;
}

/* Copy them to where `*at` is, behind `*texts`. */
static char **copied(PyObject *items, char ***texts, char **at) {
    char **first = *texts;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *bytes = PyList_GET_ITEM(items, i);
        size_t size = PyBytes_GET_SIZE(bytes) + 1;
        *(*texts)++ = memcpy(*at, PyBytes_AS_STRING(bytes), size);
        *at += size;
    }
    *(*texts)++ = NULL;
    return first;
}

static Beginning *prepared(PyObject *files, PyObject *argv, PyObject *env, PyObject *cwd) {
    Py_ssize_t size = sizeof(Beginning);
    PyObject *all[4] = {NULL};
    PyObject *given[4] = {files, argv, env, cwd};
    Beginning *self = NULL;
    char *block = NULL;
    int i = 0;
    for (; i < 4; i++)
        if (!(all[i] = encoded(given[i], &size))) goto done;
    if (posix_memalign((void **)&block, 16, STACK + size) != 0) {
        PyErr_NoMemory();
        goto done;
    }
    self = (Beginning *)(block + STACK);
    memset(self, 0, sizeof *self);
    char **texts = (char **)(self + 1);
    char *at = (char *)texts;
    for (i = 0; i < 4; i++) at += (PyList_GET_SIZE(all[i]) + 1) * sizeof(char *);
    self->files = copied(all[0], &texts, &at);
    self->argv = copied(all[1], &texts, &at);
    self->envp = copied(all[2], &texts, &at);
    self->cwd = *copied(all[3], &texts, &at);
done:
    for (i = 0; i < 4; i++) Py_XDECREF(all[i]);
    return self;
}

/* --- its descriptors --- */

/* A pipe whose ends are none of 0, 1 and 2. */
static int opened_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    for (int i = 0; i < 2; i++) {
        if (ends[i] > 2) continue;
        int above = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
        if (above < 0) {
            int error = errno;
            close(ends[0]);
            close(ends[1]);
            errno = error;
            return -1;
        }
        close(ends[i]);
        ends[i] = above;
    }
    return 0;
}

static long started(Beginning *self, int *pidfd) {
    const uint64_t all = ~(uint64_t)0;
    CloneArgs args = {
        /* No handler of this process runs in the new one, which has its memory. */
        .flags = CLONE_VM | CLONE_PIDFD | CLONE_CHILD_CLEARTID | CLONE_CLEAR_SIGHAND,
        .pidfd = (uintptr_t)pidfd,
        .child_tid = (uintptr_t)&self->tid,
        .exit_signal = SIGCHLD,
        .stack = (uintptr_t)stack_of(self),
        .stack_size = STACK,
    };
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &self->mask, sizeof all);
    self->tid = 1;
    long pid = clone_to_run(&args, child, self);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &self->mask, NULL, sizeof all);
    if (pid < 0) {
        self->tid = 0;
        errno = (int)-pid;
    }
    return pid;
}

/* --- for Python --- */

static PyObject *begin(PyObject *module, PyObject *arguments) {
    PyObject *files, *argv, *env, *cwd;
    int in, out[2], err[2], pidfd = -1;
    long pid = -1;
    if (!PyArg_ParseTuple(arguments, "OOOOi:begin", &files, &argv, &env, &cwd, &in)) return NULL;
    Beginning *self = prepared(files, argv, env, cwd);
    if (!self) return NULL;
    PyObject *capsule = PyCapsule_New(self, NAME, discard);
    if (!capsule) {
        free(stack_of(self));
        return NULL;
    }
    if (opened_pipe(out) == 0) {
        if (opened_pipe(err) == 0) {
            self->in = in;
            self->out = out[1];
            self->err = err[1];
            pid = started(self, &pidfd);
            int error = errno;
            close(err[1]);
            if (pid < 0) close(err[0]);
            errno = error;
        }
        int error = errno;
        close(out[1]);
        if (pid < 0) close(out[0]);
        errno = error;
    }
    if (pid < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        Py_DECREF(capsule);
        return NULL;
    }
    return Py_BuildValue("liiiN", pid, pidfd, out[0], err[0], capsule);
}

static PyObject *wait_for_exec(PyObject *module, PyObject *capsule) {
    Beginning *self = PyCapsule_GetPointer(capsule, NAME);
    if (!self) return NULL;
    if (__atomic_load_n(&self->tid, __ATOMIC_ACQUIRE) != 0) {
        Py_BEGIN_ALLOW_THREADS
        wait_until_gone(self);
        Py_END_ALLOW_THREADS
    }
    return PyLong_FromLong(self->error);
}

static PyMethodDef methods[] = {
    {"begin", begin, METH_VARARGS,
     "begin(files, argv, env, cwd, stdin) -> (pid, pidfd, stdout, stderr, beginning)\n\n"
     "Begin to start a process in a session of its own; `beginning` is for `wait_for_exec`."},
    {"wait_for_exec", wait_for_exec, METH_O,
     "wait_for_exec(beginning) -> int\n\n"
     "Wait until it executes its program: 0, or the errno that says why it cannot."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_clone", "Starts a process without waiting for its execve.", 0, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__clone(void) {
    if (syscall(SYS_close_range, ~0U, ~0U, 0) != 0) {
        PyErr_SetString(PyExc_ImportError, "this kernel has no close_range");
        return NULL;
    }
    return PyModule_Create(&definition);
}
