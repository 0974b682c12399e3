/* `nested COUNT`: COUNT times two calls of semop from inner, called by middle, by outer, by main. */
#include <stdlib.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/syscall.h>

/* Not to be inlined: each is a frame. */
#define KEPT __attribute__((noinline, noclone))

static volatile int done;

/* The system call itself: the C library's function would be the innermost frame, and without a frame pointer of its own
   it hides its caller. */
KEPT void inner(int set, struct sembuf *operation)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(SYS_semop), "D"(set), "S"(operation), "d"(1)
			 : "rcx", "r11", "memory");
	done += result == 0;
}

KEPT void middle(int set, short amount)
{
	struct sembuf operation = { 0, amount, 0 };

	inner(set, &operation);
	done++;
}

KEPT void outer(int set)
{
	middle(set, 1);
	middle(set, -1);
	done++;
}

int main(int argument_count, char **arguments)
{
	int set = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);

	for (int i = 0; i < atoi(arguments[1]); i++)
		outer(set);
	semctl(set, 0, IPC_RMID);
	return done == 5 * atoi(arguments[1]) ? 0 : 1;
}
