/* `sigsets COUNT`: COUNT calls each of sigemptyset, sigaddset, sigfillset and sigdelset, in this order. */
#include <signal.h>
#include <stdlib.h>

int main(int argument_count, char **arguments)
{
	sigset_t set;

	for (long i = 0; i < atol(arguments[1]); i++) {
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		sigfillset(&set);
		sigdelset(&set, SIGUSR2);
	}
	return 0;
}
