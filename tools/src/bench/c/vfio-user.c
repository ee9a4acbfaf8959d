/*
 * The least that QEMU takes for a vfio-user server: edu's two first registers, one client, messages answered as they come. Argument: the
 * socket. SPDX-License-Identifier: MIT
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { VERSION = 1, UNMAP = 3, INFO = 4, REGION_INFO = 5, IRQ_INFO = 7, READ = 9, WRITE = 10, WRITE_MULTI = 15 };
enum { HEADER = 16, ACCESS = 16, NO_REPLY = 0x10, CONFIG = 7, BAR_BYTES = 1 << 20, CONFIG_BYTES = 256 };

typedef struct {
  uint16_t id, command;
  uint32_t size, flags, error;
} Header;

typedef struct {
  uint64_t offset;
  uint32_t region, count;
} Access;

static uint8_t config[CONFIG_BYTES] = {0x34, 0x12, 0xe8, 0x11, [10] = 0xff, [11] = 0x00};
static uint32_t liveness;
static uint8_t in[1 << 21], out[1 << 21];

static void read_region(const Access *access, uint8_t *into) {
  memset(into, 0, access->count);
  if (access->region == CONFIG && access->offset + access->count <= CONFIG_BYTES) {
    memcpy(into, config + access->offset, access->count);
    return;
  }
  uint32_t value = access->offset == 0 ? 0x010000ed : access->offset == 4 ? ~liveness : 0;
  memcpy(into, &value, access->count < 4 ? access->count : 4);
}

static void write_region(const Access *access, const uint8_t *from) {
  if (access->region == CONFIG && access->offset >= 4 && access->offset + access->count <= CONFIG_BYTES) {
    memcpy(config + access->offset, from, access->count);
    uint32_t bar;
    memcpy(&bar, config + 0x10, 4);
    bar &= ~(uint32_t)(BAR_BYTES - 1);
    memcpy(config + 0x10, &bar, 4);
    memset(config + 0x14, 0, 20);
    memset(config + 0x30, 0, 4);
  } else if (access->offset == 4 && access->count == 4) {
    memcpy(&liveness, from, 4);
  }
}

/* Writes the reply's payload to `to`; returns its size. */
static uint32_t answer(const Header *header, const uint8_t *payload, uint8_t *to) {
  static const char capabilities[] = "\0\0\0\0{\"capabilities\":{\"write_multiple\":true,\"max_data_xfer_size\":1048576}}";
  Access access;
  uint32_t words[8] = {0};
  memcpy(words, payload, header->size - HEADER < sizeof words ? header->size - HEADER : sizeof words);
  memcpy(&access, payload, sizeof access);
  switch (header->command) {
  case VERSION:
    memcpy(to, capabilities, sizeof capabilities);
    return sizeof capabilities;
  case UNMAP:
    memcpy(to, words, 24);
    return 24;
  case INFO:
    memcpy(to, (uint32_t[]){16, 3, 9, 5}, 16);
    return 16;
  case REGION_INFO: {
    uint32_t size = words[2] == 0 ? BAR_BYTES : words[2] == CONFIG ? CONFIG_BYTES : 0;
    memcpy(to, (uint32_t[]){32, size ? 3 : 0, words[2], 0, size, 0, 0, 0}, 32);
    return 32;
  }
  case IRQ_INFO:
    memcpy(to, (uint32_t[]){16, 0, words[2], 0}, 16);
    return 16;
  case READ:
    memcpy(to, payload, ACCESS);
    read_region(&access, to + ACCESS);
    return ACCESS + access.count;
  case WRITE:
    write_region(&access, payload + ACCESS);
    memcpy(to, payload, ACCESS);
    return ACCESS;
  case WRITE_MULTI:
    for (uint32_t at = 8; at < header->size - HEADER; at += 24) {
      memcpy(&access, payload + at, sizeof access);
      write_region(&access, payload + at + sizeof access);
    }
    memcpy(to, payload, 8);
    return 8;
  default:
    return 0;
  }
}

int main(int count, char **arguments) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (count < 2 || strlen(arguments[1]) >= sizeof address.sun_path) return 1;
  strcpy(address.sun_path, arguments[1]);
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1) < 0) {
    perror(arguments[1]);
    return 1;
  }
  puts("ready");
  fflush(stdout);
  int client = accept(listener, NULL, NULL);
  size_t have = 0;
  for (ssize_t more; (more = read(client, in + have, sizeof in - have)) > 0;) {
    have += (size_t)more;
    size_t at = 0;
    Header header;
    while (have - at >= HEADER) {
      memcpy(&header, in + at, HEADER);
      if (header.size < HEADER || header.size > sizeof in / 2) return 1;
      if (have - at < header.size) break;
      uint32_t size = HEADER + answer(&header, in + at + HEADER, out + HEADER);
      at += header.size;
      if ((header.flags & NO_REPLY) != 0) continue;
      memcpy(out, &(Header){header.id, header.command, size, 1, 0}, HEADER);
      if (write(client, out, size) != (ssize_t)size) return 1;
    }
    memmove(in, in + at, have -= at);
  }
  return 0;
}
