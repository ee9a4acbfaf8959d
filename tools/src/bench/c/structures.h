/* The paging-structure cache of packages/iommu, written in C: two ways of 16 bytes. SPDX-License-Identifier: MIT */
#ifndef STRUCTURES_H
#define STRUCTURES_H
#include "iotlb.h"

enum { STRUCTURES = 8192, STRUCTURE_BITS = 13, DEAD_END = 0x800, LEVEL_MASK = 7, TAG_SHIFT = 3, TOP_SHIFT = 19 };

typedef struct {
  uint32_t words[STRUCTURES * 4];
  int deepest;
  Spaces spaces;
} Structures;

static Structures *structures_new(void) {
  Structures *s = calloc(1, sizeof *s);
  s->deepest = 6;
  spaces_init(&s->spaces);
  return s;
}

static inline uint32_t structure_page(int level, uint32_t hi, uint32_t lo) {
  return level == 5 ? 0 : ((hi << 20) | (lo >> 12)) & (~0u << (9 * level - 9));
}

static inline uint32_t structure_key(uint32_t tag, int level, uint32_t hi) {
  uint32_t top = level == 5 ? (hi >> 16) << 4 : hi >> 12;
  return (top << TOP_SHIFT) | (tag << TAG_SHIFT) | (uint32_t)level;
}

static inline uint32_t *structure_slot(Structures *s, uint32_t page, uint32_t key) {
  uint32_t hash = (page ^ (key * 0x27d4eb2fu)) * 0x9e3779b1u;
  hash = (hash ^ (hash >> 15)) * 0x85ebca6bu;
  return s->words + (hash >> (32 - STRUCTURE_BITS)) * 4;
}

static inline uint32_t *other_way(Structures *s, uint32_t *slot) { return s->words + ((slot - s->words) ^ 4); }

/* The deepest entry that covers the address, or NULL. */
static inline const uint32_t *structure_of(Structures *s, int space, int levels, uint32_t hi, uint32_t lo) {
  uint32_t tag = tag_of(&s->spaces, space);
  if (tag == 0) return NULL;
  for (int level = s->deepest; level <= levels; level++) {
    uint32_t page = structure_page(level, hi, lo), key = structure_key(tag, level, hi);
    uint32_t *slot = structure_slot(s, page, key);
    if (slot[0] == page && slot[1] == key) return slot;
    slot = other_way(s, slot);
    if (slot[0] == page && slot[1] == key) return slot;
  }
  return NULL;
}

static void remember(Structures *s, int space, int level, uint32_t hi, uint32_t lo, uint32_t table_hi, uint32_t table_lo, uint32_t marks) {
  uint32_t tag = tag_of(&s->spaces, space);
  if (tag == 0) tag = new_tag(&s->spaces, space);
  if (level < s->deepest) s->deepest = level;
  uint32_t page = structure_page(level, hi, lo), key = structure_key(tag, level, hi);
  uint32_t *slot = structure_slot(s, page, key);
  if (slot[0] != page || slot[1] != key) {
    memcpy(other_way(s, slot), slot, 16);
    slot[0] = page;
    slot[1] = key;
  }
  slot[2] = table_lo | marks;
  slot[3] = table_hi;
}
#endif
