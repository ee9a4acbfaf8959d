/* The IOTLB of packages/iommu, written in C: four ways of 16 bytes, tags by address space, stamps. SPDX-License-Identifier: MIT */
#ifndef IOTLB_H
#define IOTLB_H
#include "peer.h"

enum { WAYS = 4, SPACES = 128, SIZES = 16 };

/* By address space, and by group of them that is flushed together. */
typedef struct {
  int32_t tag[SPACES];
  uint64_t born[SPACES], group_flushed[SPACES];
  int group[SPACES];
  uint64_t all_flushed, clock;
  uint32_t next_tag;
  int *owner;
} Spaces;

typedef struct {
  uint32_t *words;
  int set_shift;
  int sizes;
  int shift[SIZES];
  uint32_t mask_hi[SIZES], mask_lo[SIZES];
  Spaces spaces;
} Iotlb;

static void spaces_init(Spaces *s) {
  memset(s->tag, -1, sizeof s->tag);
  s->next_tag = 1;
  s->owner = calloc(1 << 20, sizeof *s->owner);
}

static inline uint32_t tag_of(const Spaces *s, int space) {
  uint64_t born = s->born[space];
  return born > s->all_flushed && born > s->group_flushed[s->group[space]] ? (uint32_t)s->tag[space] : 0;
}

static inline int is_live(const Spaces *s, uint32_t tag) { return tag != 0 && tag_of(s, s->owner[tag]) == tag; }

static inline int is_outdated(const Spaces *s, uint32_t tag) { return (uint32_t)s->tag[s->owner[tag]] != tag; }

static uint32_t new_tag(Spaces *s, int space) {
  uint32_t tag = s->next_tag++;
  s->owner[tag] = space;
  s->tag[space] = (int32_t)tag;
  s->born[space] = ++s->clock;
  return tag;
}

static Iotlb *iotlb_new(uint32_t entries) {
  Iotlb *t = calloc(1, sizeof *t);
  int bits = 4;
  while ((1u << bits) < entries) bits++;
  t->words = calloc((size_t)1 << bits, WAYS * 16);
  t->set_shift = 32 - bits;
  spaces_init(&t->spaces);
  return t;
}

static inline uint32_t start_of(const Iotlb *t, uint32_t tag, uint32_t page_lo, uint32_t page_hi) {
  uint32_t hash = (page_lo ^ (page_hi >> 12) ^ (tag * 0x27d4eb2fu)) * 0x9e3779b1u;
  hash = (hash ^ (hash >> 15)) * 0x85ebca6bu;
  return (hash >> t->set_shift) * WAYS + (hash & (WAYS - 1));
}

static inline int find(const Iotlb *t, uint32_t start, uint32_t tag, int code, uint32_t page_lo, uint32_t page_hi) {
  uint32_t set = start & ~(WAYS - 1u);
  uint32_t second = page_hi | (tag & 0xfff), fourth = ((tag >> 12) << 4) | (uint32_t)code;
  for (uint32_t way = 0; way < WAYS; way++) {
    uint32_t slot = set | ((start + way) & (WAYS - 1));
    const uint32_t *w = t->words + (size_t)slot * 4;
    if (w[0] == page_lo && w[1] == second && w[3] >> 20 == fourth) return (int)slot;
  }
  return -1;
}

static inline int lookup(const Iotlb *t, int space, uint32_t hi, uint32_t lo) {
  uint32_t tag = tag_of(&t->spaces, space);
  if (tag == 0) return -1;
  for (int code = 0; code < t->sizes; code++) {
    uint32_t high = hi & t->mask_hi[code];
    uint32_t page_lo = (high << 20) | ((lo & t->mask_lo[code]) >> 12), page_hi = high & ~0xfffu;
    int slot = find(t, start_of(t, tag, page_lo, page_hi), tag, code, page_lo, page_hi);
    if (slot >= 0) return slot;
  }
  return -1;
}

static inline uint32_t hi_of(const Iotlb *t, int slot) { return t->words[slot * 4 + 3] & 0xfffff; }
static inline uint32_t lo_of(const Iotlb *t, int slot) { return t->words[slot * 4 + 2] & ~0xfffu; }
static inline uint32_t access_of(const Iotlb *t, int slot) { return t->words[slot * 4 + 2] & 0xff; }

static inline uint32_t tag_at(const uint32_t *w) { return ((w[3] >> 24) << 12) | (w[1] & 0xfff); }

/* A way of an address space that has not been used since its flush. What is pushed out here never has an older entry: pages are not removed one by one. */
static uint32_t free_way(const Iotlb *t, uint32_t start) {
  uint32_t set = start & ~(WAYS - 1u);
  for (uint32_t way = 0; way < WAYS; way++) {
    uint32_t slot = set | ((start + way) & (WAYS - 1));
    if (!is_live(&t->spaces, tag_at(t->words + (size_t)slot * 4))) return slot;
  }
  return start;
}

static inline uint32_t place(const Iotlb *t, uint32_t start, uint32_t tag, int code, uint32_t page_lo, uint32_t page_hi) {
  uint32_t set = start & ~(WAYS - 1u);
  uint32_t second = page_hi | (tag & 0xfff), fourth = ((tag >> 12) << 4) | (uint32_t)code;
  for (uint32_t way = 0; way < WAYS; way++) {
    uint32_t slot = set | ((start + way) & (WAYS - 1));
    const uint32_t *w = t->words + (size_t)slot * 4;
    if (is_outdated(&t->spaces, tag_at(w))) return slot;
    if (w[0] == page_lo && w[1] == second && w[3] >> 20 == fourth) return slot;
  }
  return free_way(t, start);
}

static void insert(Iotlb *t, int space, uint32_t hi, uint32_t lo, int shift, uint32_t out_hi, uint32_t out_lo, uint32_t access) {
  if (out_hi & ~0xfffffu) return;
  uint32_t tag = tag_of(&t->spaces, space);
  if (tag == 0) tag = new_tag(&t->spaces, space);
  int code = 0;
  while (code < t->sizes && t->shift[code] != shift) code++;
  if (code == t->sizes) {
    t->sizes++;
    t->shift[code] = shift;
    t->mask_hi[code] = shift >= 32 ? ~0u << (shift - 32) : ~0u;
    t->mask_lo[code] = shift >= 32 ? 0 : ~0u << shift;
  }
  uint32_t high = hi & t->mask_hi[code];
  uint32_t page_lo = (high << 20) | ((lo & t->mask_lo[code]) >> 12), page_hi = high & ~0xfffu;
  uint32_t slot = place(t, start_of(t, tag, page_lo, page_hi), tag, code, page_lo, page_hi);
  uint32_t *w = t->words + (size_t)slot * 4;
  w[0] = page_lo;
  w[1] = page_hi | (tag & 0xfff);
  w[2] = (out_lo & t->mask_lo[code] & ~0xfffu) | access;
  w[3] = ((((tag >> 12) << 4) | (uint32_t)code) << 20) | (out_hi & t->mask_hi[code]);
}
#endif
