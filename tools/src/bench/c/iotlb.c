/* Lookups that hit in the same table. SPDX-License-Identifier: MIT */
#include "iotlb.h"
#include "keys.h"

static Iotlb *iotlb;
static Words lookups;
static uint32_t sum;

static void before(void) {}

static int run(void) {
  sum = 0;
  for (size_t i = 0; i < lookups.count; i += 3) {
    int slot = lookup(iotlb, (int)lookups.at[i], lookups.at[i + 1], lookups.at[i + 2]);
    sum = mix(mix(sum, lo_of(iotlb, slot)), (hi_of(iotlb, slot) << 8) | access_of(iotlb, slot));
  }
  return (int)(lookups.count / 3);
}

static uint32_t checksum(void) { return sum; }

int main(int count, char **arguments) {
  if (count < 3) return 1;
  keys = read_words(arguments[1], "keys");
  lookups = read_words(arguments[1], "lookups");
  iotlb = iotlb_new((uint32_t)atoi(arguments[2]));
  for (int space = 0; space < SPACES; space++) iotlb->spaces.group[space] = (int)domain_of((uint32_t)space);
  for (size_t i = 0; i < keys.count; i += KEY_WORDS) {
    const uint32_t *k = keys.at + i;
    insert(iotlb, (int)k[0], k[1], k[2], (int)k[3], k[4], k[5], 3);
  }
  serve(before, run, checksum);
  return 0;
}
