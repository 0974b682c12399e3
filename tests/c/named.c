/* named MODE SEMAPHORE_KEY NAME... [-- WHATEVER]: a thread of each name, any bytes in hexadecimal, makes a queue of that name
 * and sends and receives; MODE wait: it then waits for a semaphore until SIGTERM, MODE once: until a second is over. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <unistd.h>

static int semaphore;
static int must_wait;

struct name {
    char bytes[256];
};

static void check(long result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static struct name decoded(const char *hexadecimal) {
    struct name name = {{0}};
    for (size_t i = 0; hexadecimal[2 * i] != 0; i++) {
        unsigned byte = 0;
        sscanf(hexadecimal + 2 * i, "%2x", &byte);
        name.bytes[i] = (char)byte;
    }
    return name;
}

__attribute__((noinline)) static void Zq7Secfunction(struct sembuf *take) { check(semop(semaphore, take, 1), "semop"); }

static void *work(void *argument) {
    const char *name = argument;
    struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 16};
    char message[16] = {0};
    prctl(PR_SET_NAME, name);
    /* The system calls themselves: the library wants a slash. */
    long queue = syscall(SYS_mq_open, name, O_RDWR | O_CREAT | O_NONBLOCK, 0600, &attributes);
    check(queue, "mq_open");
    check(syscall(SYS_mq_timedsend, queue, message, 1, 0, NULL), "mq_timedsend");
    check(syscall(SYS_mq_timedreceive, queue, message, 16, NULL, NULL), "mq_timedreceive");
    struct sembuf give = {0, 1, 0}, take = {0, -1, 0}, end = {1, -1, 0};
    Zq7Secfunction(&give);
    Zq7Secfunction(&take);
    if (must_wait) {
        semop(semaphore, &end, 1); /* until it is removed */
    }
    return NULL;
}

int main(int count, char **arguments) {
    pthread_t threads[128];
    static struct name names[128];
    int started = 0;
    sigset_t term;
    key_t key;
    must_wait = strcmp(arguments[1], "wait") == 0;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, NULL);
    key = (key_t)strtoul(arguments[2], NULL, 0);
    if ((semaphore = semget(key, 0, 0)) != -1)
        semctl(semaphore, 0, IPC_RMID); /* of a run that was killed */
    semaphore = semget(key, 2, IPC_CREAT | IPC_EXCL | 0600);
    check(semaphore, "semget");
    for (int i = 3; i < count && strcmp(arguments[i], "--") != 0 && started < 128; i++, started++) {
        names[started] = decoded(arguments[i]);
        check(-pthread_create(&threads[started], NULL, work, names[started].bytes), "pthread_create");
    }
    if (must_wait) {
        int number;
        sleep(1);
        puts("waiting");
        fflush(stdout);
        sigwait(&term, &number);
    } else {
        sleep(2); /* a snapshot finds the queues */
    }
    semctl(semaphore, 0, IPC_RMID);
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        syscall(SYS_mq_unlink, names[i].bytes);
    }
    return 0;
}
