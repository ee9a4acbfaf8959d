/* What the peers share: reading what the other side left, the checksum, and answering `run`. SPDX-License-Identifier: MIT */
#ifndef PEER_H
#define PEER_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct {
  uint32_t *at;
  size_t count;
} Words;

static Words read_words(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s.bin", folder, name);
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    perror(path);
    exit(1);
  }
  fseek(file, 0, SEEK_END);
  size_t bytes = (size_t)ftell(file);
  rewind(file);
  Words words = {malloc(bytes + 64), bytes / 4};
  if (fread(words.at, 1, bytes, file) != bytes) exit(1);
  fclose(file);
  return words;
}

static inline uint32_t mix(uint32_t sum, uint32_t word) { return sum * 31 + word; }

static double nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e9 + now.tv_nsec;
}

/* Answers each line of input by one run: before() is not timed, run() returns its operations. */
static void serve(void (*before)(void), int (*run)(void), uint32_t (*checksum)(void)) {
  char line[64];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    before();
    double start = nanoseconds();
    int operations = run();
    double each = (nanoseconds() - start) / operations;
    printf("%f %u\n", each, checksum());
    fflush(stdout);
  }
}
#endif
