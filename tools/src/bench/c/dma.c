/*
 * 4 KiB a time into a file that is memory: by a system call, as a server without the memory mapped does, or into the mapped file. What is written
 * where is as in served-dma.ts. SPDX-License-Identifier: MIT
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "peer.h"

enum { PAGE = 4096, STEP = 97 };

static int file, entries, runs, mapped;
static uint8_t *memory;
static uint32_t page[PAGE / 4];

static uint32_t *first_word(int index) { return (uint32_t *)(memory + (size_t)index * PAGE); }

static void before(void) {
  for (int i = 0; i < entries; i++) *first_word(i) = 0;
}

static int run(void) {
  for (int i = 0; i < runs * entries; i++) {
    int index = (int)((int64_t)i * STEP % entries);
    page[0] = (uint32_t)i;
    if (mapped) {
      memcpy(memory + (size_t)index * PAGE, page, PAGE);
      __asm__ volatile("" ::: "memory");
    } else if (pwrite(file, page, PAGE, (off_t)index * PAGE) != PAGE) {
      exit(1);
    }
  }
  return runs * entries;
}

static uint32_t checksum(void) {
  uint32_t sum = 0;
  for (int i = 0; i < entries; i++) sum = mix(sum, *first_word(i));
  return sum;
}

int main(int count, char **arguments) {
  if (count < 4) return 1;
  char path[4096];
  snprintf(path, sizeof path, "%s/memory-c-%s", arguments[1], arguments[3]);
  entries = atoi(arguments[2]);
  mapped = strstr(arguments[3], "mapped") != NULL;
  runs = strstr(arguments[3], "once") != NULL ? 1 : 4;
  memset(page, 0x5a, sizeof page);
  file = open(path, O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, (off_t)entries * PAGE) != 0) return 1;
  memory = mmap(NULL, (size_t)entries * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) return 1;
  serve(before, run, checksum);
  return 0;
}
