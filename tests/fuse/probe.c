/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that shells cannot be: reads a file in ways named by the first argument and prints "BYTES ERROR".
 * splice: pipe from the file; sendfile: with the file's own offset; sendfile_off: with an offset; copy: copy_file_range;
 * mmap: a shared mapping; restart: a blocked read under SIGALRM with SA_RESTART; ioctl, fallocate, xattr: one call each.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <unistd.h>

static int say(long n, int failed)
{
	printf("%ld %s\n", n, failed ? strerrorname_np(errno) : "OK");
	return 0;
}

static long from_pipe(int fd)
{
	char buf[65536];

	return read(fd, buf, sizeof(buf));
}

static int copy(const char *how, int fd)
{
	const int out = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	off_t off = 0;
	long n = 0, k;
	int p[2];

	if (out < 0 || pipe(p) < 0)
		return 1;
	for (;;) {
		if (!strcmp(how, "splice"))
			k = splice(fd, NULL, p[1], NULL, 65536, 0);
		else if (!strcmp(how, "sendfile"))
			k = sendfile(out, fd, NULL, 65536);
		else if (!strcmp(how, "sendfile_off"))
			k = sendfile(out, fd, &off, 65536);
		else
			k = copy_file_range(fd, NULL, out, NULL, 65536, 0);
		if (k <= 0)
			return say(n, k < 0);
		if (!strcmp(how, "splice"))
			from_pipe(p[0]);
		n += k;
	}
}

static void on_alarm(int sig)
{
}

static int restart(int fd)
{
	const struct sigaction act = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	char buf[64];
	long n, k;

	while ((k = read(fd, buf, 1)) == 1 && buf[0] != ' ')
		;
	sigaction(SIGALRM, &act, NULL);
	ualarm(50000, 0);
	for (n = 0; (k = read(fd, buf, sizeof(buf))) > 0; n += k)
		;
	return say(n, k < 0);
}

int main(int argc, char **argv)
{
	int fd, n = 0;
	void *map;

	if (argc != 3)
		return 2;
	fd = open(argv[2], !strcmp(argv[1], "fallocate") ? O_WRONLY : O_RDONLY);
	if (fd < 0)
		return say(-1, 1);
	if (!strcmp(argv[1], "restart"))
		return restart(fd);
	if (!strcmp(argv[1], "mmap")) {
		map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		return say(0, map == MAP_FAILED);
	}
	if (!strcmp(argv[1], "ioctl"))
		return say(0, ioctl(fd, FIONREAD + 0x1000, &n) < 0);
	if (!strcmp(argv[1], "fallocate"))
		return say(0, fallocate(fd, 0, 0, 100) < 0);
	if (!strcmp(argv[1], "xattr"))
		return say(0, fgetxattr(fd, "user.x", &n, sizeof(n)) < 0);
	return copy(argv[1], fd);
}
