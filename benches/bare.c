/* What the kernel alone takes: a loop that spawns, kills and spawns again, with nothing around it.
 *
 *     bare PROGRAM FIFO COUNT
 *
 * prints lines `spawn NS` (from the call to the program's first instruction), `restart NS` (from the KILL, by way of a
 * pidfd, to the next instance's first instruction), `letter NS` (the same from another process's write into a pipe) and
 * `end NS` (from the KILL until the pidfd says so).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void must(int worked, const char *what)
{
	if (!worked) {
		perror(what);
		exit(111);
	}
}

static uint64_t clock_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static int fifo;
static char *program[2], *nothing[1];

static pid_t spawn(void)
{
	pid_t pid;
	must(posix_spawn(&pid, program[0], 0, 0, program, nothing) == 0, "posix_spawn");
	return pid;
}

static uint64_t first_instruction(void)
{
	struct { uint64_t ns, pid; } record;
	must(read(fifo, &record, sizeof record) == sizeof record, "read");
	return record.ns;
}

static void end(pid_t pid)
{
	struct pollfd ended = { syscall(SYS_pidfd_open, pid, 0), POLLIN, 0 };
	must(ended.fd >= 0, "pidfd_open");
	kill(pid, SIGKILL);
	must(poll(&ended, 1, -1) == 1, "poll");
	close(ended.fd);
}

/* Another process, which writes a letter some time after it was asked to: the time at which it was sent. */
static int asked, letters;

static void start_sender(void)
{
	int ask[2], answer[2];
	must(pipe2(ask, O_CLOEXEC) == 0 && pipe2(answer, O_CLOEXEC) == 0, "pipe2");
	pid_t pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		close(ask[1]);
		for (char any; read(ask[0], &any, 1) == 1;) {
			usleep(10000); /* so that who asked is asleep */
			uint64_t now = clock_ns();
			must(write(answer[1], &now, sizeof now) == sizeof now, "write");
		}
		_exit(0);
	}
	asked = ask[1];
	letters = answer[0];
}

static uint64_t letter(void)
{
	uint64_t sent;
	must(write(asked, "", 1) == 1, "write");
	must(read(letters, &sent, sizeof sent) == sizeof sent, "read");
	return sent;
}

/* Ends one instance and starts the next, which is reaped only then: nothing waits for that. */
static pid_t restart(pid_t pid, uint64_t since, const char *what)
{
	end(pid);
	pid_t next = spawn();
	printf("%s %" PRIu64 "\n", what, first_instruction() - since);
	waitpid(pid, 0, 0);
	return next;
}

int main(int argc, char **argv)
{
	must(argc == 4, "usage: bare PROGRAM FIFO COUNT");
	program[0] = argv[1];
	must((fifo = open(argv[2], O_RDWR | O_CLOEXEC)) >= 0, argv[2]);
	start_sender();
	for (int left = atoi(argv[3]); left > 0; left--) {
		uint64_t begin = clock_ns();
		pid_t pid = spawn();
		printf("spawn %" PRIu64 "\n", first_instruction() - begin);
		usleep(10000); /* so that it is asleep, as a service mostly is */
		pid = restart(pid, clock_ns(), "restart");
		pid = restart(pid, letter(), "letter");
		usleep(10000);
		begin = clock_ns();
		end(pid);
		printf("end %" PRIu64 "\n", clock_ns() - begin);
		waitpid(pid, 0, 0);
	}
	return 0;
}
