/* What bench and tree log: lines of 100 bytes. `line TOTAL BLOCK` writes so many bytes in blocks of so many;
 * `line every MILLISECONDS` writes one line in each such time. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char block[65536];

static int put(long size) {
	for (long done = 0; done < size;) {
		ssize_t count = write(1, block + done, size - done);
		if (count <= 0) return 0;
		done += count;
	}
	return 1;
}

int main(int count, char **words) {
	if (count != 3) return 100;
	for (size_t at = 0; at < sizeof block; at++) block[at] = at % 100 == 99 ? '\n' : (char)('a' + at % 26);
	if (!strcmp(words[1], "every")) {
		long time = atol(words[2]);
		struct timespec pause = {time / 1000, time % 1000 * 1000000};
		while (put(100)) nanosleep(&pause, 0);
		return 1;
	}
	if (!strcmp(words[1], "read")) {
		while (read(0, block, sizeof block) > 0) continue;
		return 0;
	}
	long total = atol(words[1]), size = atol(words[2]);
	for (long done = 0; done < total; done += size)
		if (!put(size)) return 1;
	return 0;
}
