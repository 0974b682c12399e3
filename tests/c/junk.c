/* `junk`: semget, then semop four times with a frame pointer that leads to frames made by hand: three that are junk,
   and one whose return address is real, where a junk frame follows. Then IPC_RMID. Prints nothing. */
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/syscall.h>

struct frame {
	const void *next;
	const void *return_address;
};

static char data[64] = "no code";

__attribute__((noinline, noclone)) static long call(int set, struct sembuf *operation, const struct frame *frame)
{
	long result;

	/* Built without a red zone: the push is where the compiler keeps nothing. */
	__asm__ volatile("push %%rbp\n\tmov %[frame], %%rbp\n\tsyscall\n\tpop %%rbp"
			 : "=a"(result)
			 : "a"(SYS_semop), "D"(set), "S"(operation), "d"(1), [frame] "r"(frame)
			 : "rcx", "r11", "memory");
	return result;
}

/* Where a call returns to: into main. */
__attribute__((noinline, noclone)) static const void *here(void)
{
	return __builtin_return_address(0);
}

int main(void)
{
	int set = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
	struct sembuf up = { 0, 1, 0 };
	struct frame behind = { 0, (const void *)main };
	struct frame unmapped = { &behind, (const void *)16 };
	struct frame in_data = { &behind, data };
	struct frame no_return = { &behind, (const void *)main };
	struct frame real = { &no_return, here() };
	long failed = call(set, &up, &unmapped) | call(set, &up, &in_data) | call(set, &up, &no_return) |
		      call(set, &up, &real);

	semctl(set, 0, IPC_RMID);
	return failed != 0;
}
