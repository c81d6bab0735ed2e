/* The service that every supervisor runs here. Before all else it reads the clock; then it writes the time and its
 * pid, 16 bytes, to a FIFO whose path is built in. So the time of a start is taken by what was started, and no wake-up
 * of the bench is in it.
 *
 * It starts without the C library, whose own beginning takes longer than a spawn. Calls that fail may therefore crash
 * (errno has no place yet); none of these does.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef __x86_64__
__attribute__((force_align_arg_pointer))
#endif
void _start(void)
{
	struct timespec now;
	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	struct { uint64_t ns, pid; } record = { now.tv_sec * 1000000000ull + now.tv_nsec, syscall(SYS_getpid) };
	long fifo = syscall(SYS_openat, AT_FDCWD, FIFO, O_WRONLY);
	syscall(SYS_write, fifo, &record, sizeof record);
	syscall(SYS_close, fifo);
#ifdef READY
	syscall(SYS_write, READY, "\n", 1); /* the descriptor on which s6 waits for it */
#endif
	for (;;)
		syscall(SYS_ppoll, 0, 0, 0, 0, 0);
}
