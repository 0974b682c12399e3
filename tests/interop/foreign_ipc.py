"""System V IPC, POSIX queues and signal masks as sysv_ipc, posix_ipc and the standard library make them."""

import os
import signal
import sys
import time

import posix_ipc
import sysv_ipc


def fails(error, call, *arguments, **named):
    """The call must fail so."""
    try:
        call(*arguments, **named)
    except error:
        return
    sys.exit(f"{call} did not fail with {error}")


def in_child(work):
    """Runs it in another process, a little later, and returns that process."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        time.sleep(0.05)
        work()
        os._exit(0)
    return child


def ended(child):
    if os.waitpid(child, 0)[1] != 0:
        sys.exit("a child failed")


def semaphores():
    semaphore = sysv_ipc.Semaphore(0x49504331, sysv_ipc.IPC_CREX, mode=0o640, initial_value=2)
    fails(sysv_ipc.ExistentialError, sysv_ipc.Semaphore, 0x49504331, sysv_ipc.IPC_CREX)
    fails(sysv_ipc.ExistentialError, sysv_ipc.Semaphore, -0x49504331)
    for undo in (False, True):
        semaphore.undo = undo
        semaphore.acquire(delta=2)
        semaphore.release(delta=2)
    semaphore.acquire(delta=2)
    semaphore.Z()
    semaphore.block = False
    fails(sysv_ipc.BusyError, semaphore.acquire)
    semaphore.block = True
    child = in_child(semaphore.release)
    semaphore.acquire()
    ended(child)
    semaphore.value = 7
    semaphore.mode = 0o600
    if (semaphore.value, semaphore.waiting_for_nonzero, semaphore.waiting_for_zero) != (7, 0, 0):
        sys.exit("the semaphore is not what was made of it")
    fails(ValueError, setattr, semaphore, "value", 40_000)
    semaphore.remove()
    fails(sysv_ipc.ExistentialError, semaphore.acquire)


def memory():
    segment = sysv_ipc.SharedMemory(None, sysv_ipc.IPC_CREX, mode=0o600, size=12_345, init_character=b"x")
    segment.detach()
    segment.attach(flags=sysv_ipc.SHM_RDONLY)
    segment.read(10)
    again = sysv_ipc.attach(segment.id)
    again.detach()
    segment.detach()
    fails(sysv_ipc.NotAttachedError, segment.detach)
    segment.remove()
    fails((sysv_ipc.ExistentialError, ValueError), sysv_ipc.attach, segment.id)


def messages():
    queue = sysv_ipc.MessageQueue(0x49504332, sysv_ipc.IPC_CREAT, mode=0o660)
    for kind, text in ((1, b"one"), (5, b""), (3, b"x" * 300)):
        queue.send(text, type=kind)
    for wanted in (-4, -4, 0):
        queue.receive(type=wanted)
    fails(sysv_ipc.BusyError, queue.receive, block=False, type=9)
    queue.max_size = 64
    queue.send(b"y" * 60)
    fails(sysv_ipc.BusyError, queue.send, b"z" * 60, block=False)
    child = in_child(lambda: queue.receive(type=1))
    queue.send(b"z" * 60, type=2)
    ended(child)
    child = in_child(queue.remove)
    fails(sysv_ipc.ExistentialError, queue.receive, type=99)
    ended(child)


def queues():
    name = f"/foreign-{os.getpid()}"
    queue = posix_ipc.MessageQueue(name, posix_ipc.O_CREX, mode=0o600, max_messages=2, max_message_size=64)
    fails(posix_ipc.ExistentialError, posix_ipc.MessageQueue, name, posix_ipc.O_CREX)
    reader = posix_ipc.MessageQueue(name, write=False)
    queue.request_notification(signal.SIGUSR1)
    queue.request_notification(None)
    queue.send(b"first", priority=3)
    queue.send("second", priority=31)
    fails(posix_ipc.BusyError, queue.send, "third", timeout=0.01)
    if [reader.receive()[1], reader.receive(timeout=1)[1]] != [31, 3]:
        sys.exit("the queue did not keep its order")
    fails(posix_ipc.BusyError, reader.receive, timeout=0.01)
    fails(ValueError, queue.send, b"x" * 65)
    queue.block = False
    fails(posix_ipc.BusyError, queue.receive)
    queue.block = True
    restarted(queue)
    interrupted(queue)
    queue.unlink()
    queue.close()
    reader.close()
    fails(posix_ipc.ExistentialError, posix_ipc.unlink_message_queue, name)


def restarted(queue):
    """Two signals with SA_RESTART while it waits, then a message: one call that was restarted twice."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    child = os.fork()
    if child == 0:
        time.sleep(0.05)
        queue.send(b"at last", priority=1)
        os._exit(0)
    queue.receive()
    signal.setitimer(signal.ITIMER_REAL, 0)
    ended(child)


def interrupted(queue):
    """Without SA_RESTART the same signal ends the call."""
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    fails((posix_ipc.SignalError, OSError, posix_ipc.BusyError), queue.receive, timeout=0.2)


def signals():
    both = {signal.SIGUSR1, signal.SIGRTMIN + 3}
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGRTMIN + 3})
    os.kill(os.getpid(), signal.SIGUSR1)
    if signal.sigpending() != {signal.SIGUSR1}:
        sys.exit("the signal is not pending")
    signal.sigwait({signal.SIGUSR1})
    signal.sigtimedwait({signal.SIGUSR1}, 0.01)
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.sigwaitinfo({signal.SIGUSR1})
    for disposition in (signal.SIG_IGN, signal.SIG_DFL, lambda *_: None):
        signal.signal(signal.SIGUSR2, disposition)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


if __name__ == "__main__":
    signal.alarm(60)
    for _ in range(int(sys.argv[1])):
        semaphores()
        memory()
        messages()
        queues()
        signals()
