/*
 * Requests that miss the IOTLB, as the VT-d model serves them: context record, PASID record, IOTLB, first-stage walk of four levels, alone
 * or over a second stage, with all checks of either. SPDX-License-Identifier: MIT
 */
#include "iotlb.h"
#include "structures.h"

enum { READ = 1, WRITE = 2, EXECUTE = 4, PRIVILEGED = 8, USER = 0x10, PRIVILEGED_WRITE = 0x20 };
enum { P = 1, RW = 2, US = 4, A = 0x20, D = 0x40, PS = 0x80, SS_A = 0x100, SNP = 0x800 };
enum { PASID_WAYS = 4, PASID_SETS = 1024, LEVELS = 4 };

typedef struct {
  uint32_t stamp, requester, pasid, flags, domain, nested, ss_hi, ss_lo, fs_hi, fs_lo;
  int space, ss_space, fs_space;
} PasidRecord;
typedef struct {
  uint32_t stamp, flags, pasids;
} ContextRecord;
/* One block of RAM in an address space. */
typedef struct {
  uint64_t start, end;
  const uint32_t *words;
} Section;
typedef struct {
  uint32_t hi, lo, shift, access;
} Page;

static Section section;
static ContextRecord *contexts[256];
static PasidRecord *pasids;
static Iotlb *iotlb;
/* NULL: every walk reads every table. */
static Structures *structures;
static Words requests;
static uint32_t requester, pasid, sum, generation = 1;
static const uint32_t reserved_hi = 0xfffff & (~0u << (48 - 32));

static inline int load(uint32_t hi, uint32_t lo, uint32_t entry[2]) {
  uint64_t at = ((uint64_t)hi << 32) | lo;
  if (at < section.start || at + 8 > section.end) return 0;
  memcpy(entry, section.words + ((at - section.start) >> 2), 8);
  return 1;
}

static inline uint32_t index_of(int level, uint32_t hi, uint32_t lo) {
  uint64_t at = ((uint64_t)hi << 32) | lo;
  return (at >> (3 + 9 * level)) & 0x1ff;
}

static inline int in_interrupt_range(uint32_t hi, uint32_t lo) { return hi == 0 && lo >> 20 == 0xfee; }

static int second_stage(const PasidRecord *pe, uint32_t hi, uint32_t lo, uint32_t access, int final, Page *out) {
  uint32_t table_hi = pe->ss_hi, table_lo = pe->ss_lo, granted = READ | WRITE, entry[2];
  if (hi >> (48 - 32)) return 1;
  int level = LEVELS;
  const uint32_t *known = structures == NULL ? NULL : structure_of(structures, pe->ss_space, LEVELS, hi, lo);
  if (known != NULL) {
    if (known[2] & DEAD_END) return 3;
    table_hi = known[3];
    table_lo = known[2] & ~0xfffu;
    granted = known[2] & 0xff;
    level = (int)(known[1] & LEVEL_MASK) - 1;
  }
  for (;; level--) {
    if (!load(table_hi, table_lo | (index_of(level, hi, lo) << 3), entry)) return 2;
    uint32_t low = entry[0], high = entry[1];
    granted &= low;
    if ((low & (READ | WRITE)) == 0 || granted == 0) return 3;
    int leaf = level == 1 || ((low & PS) && level <= 3);
    uint32_t reserved = leaf ? (level > 1 ? SNP | (((1u << (level == 2 ? 21 : 30)) - 1) & ~0xfffu) : SNP) : level == 4 ? SNP | PS : SNP;
    if ((low & reserved) || (high & (reserved_hi | 0x40000000))) return 4;
    if (leaf) {
      if ((granted & access & (READ | WRITE)) != (access & (READ | WRITE))) return 5;
      uint64_t mask = ~0ull << (3 + 9 * level);
      out->hi = high & 0xfffff & (uint32_t)(mask >> 32);
      out->lo = low & ~0xfffu & (uint32_t)mask;
      if (final && in_interrupt_range(out->hi | (hi & ~(uint32_t)(mask >> 32)), out->lo | (lo & ~(uint32_t)mask))) return 6;
      out->shift = 3 + 9 * level;
      out->access = granted;
      return 0;
    }
    table_hi = high & 0xfffff;
    table_lo = low & ~0xfffu;
    if (structures != NULL) remember(structures, pe->ss_space, level, hi, lo, table_hi, table_lo, granted);
  }
}

/* A guest address to where it is; the offset in the page comes along. */
static int through_second(const PasidRecord *pe, uint32_t *hi, uint32_t *lo, uint32_t access, int final, Page *page) {
  int reason = second_stage(pe, *hi, *lo, access, final, page);
  if (reason) return reason;
  uint64_t mask = ~0ull << page->shift;
  *hi = page->hi | (*hi & ~(uint32_t)(mask >> 32));
  *lo = page->lo | (*lo & ~(uint32_t)mask);
  return 0;
}

static int first_stage(const PasidRecord *pe, uint32_t hi, uint32_t lo, uint32_t access, Page *out) {
  uint32_t table_hi = pe->fs_hi, table_lo = pe->fs_lo, path = RW | US, execute_disable = 0, entry[2];
  int32_t sign = (int32_t)hi >> 15;
  Page page = {0, 0, 0, READ | WRITE};
  if (sign != 0 && sign != -1) return 7;
  int level = LEVELS;
  const uint32_t *known = structures == NULL ? NULL : structure_of(structures, pe->fs_space, LEVELS, hi, lo);
  if (known != NULL) {
    table_hi = known[3];
    table_lo = known[2] & ~0xfffu;
    path = known[2] & (RW | US);
    execute_disable = known[2] & 1;
    level = (int)(known[1] & LEVEL_MASK) - 1;
  }
  for (;; level--) {
    uint32_t at_hi = table_hi, at_lo = table_lo | (index_of(level, hi, lo) << 3);
    if (pe->nested) {
      int reason = through_second(pe, &at_hi, &at_lo, READ, 0, &page);
      if (reason) return reason + 10;
    }
    if (!load(at_hi, at_lo, entry)) return 8;
    uint32_t low = entry[0], high = entry[1];
    if (!(low & P)) return 9;
    path &= low;
    execute_disable |= high & 0x80000000;
    int leaf = level == 1 || ((low & PS) && level <= 3);
    if ((high & reserved_hi) || (level > 3 && (low & PS))) return 10;
    if (leaf && level > 1 && (low & ((1u << (3 + 9 * level)) - 1) & ~0x1fffu)) return 10;
    if (!leaf) {
      if (!(low & A)) return 20;
      table_hi = high & 0xfffff;
      table_lo = low & ~0xfffu;
      uint32_t marks = execute_disable ? path | 1 : path;
      if (structures != NULL) remember(structures, pe->fs_space, level, hi, lo, table_hi, table_lo, marks);
      continue;
    }
    if (!(access & PRIVILEGED) && !(path & US)) return 11;
    if ((access & WRITE) && !(path & RW) && !(access & PRIVILEGED)) return 12;
    if ((access & EXECUTE) && execute_disable) return 13;
    uint32_t shift = 3 + 9 * level;
    uint64_t mask = ~0ull << shift;
    out->hi = high & 0xfffff & (uint32_t)(mask >> 32);
    out->lo = low & ~0xfffu & (uint32_t)mask;
    out->shift = shift;
    at_hi = out->hi | (hi & ~(uint32_t)(mask >> 32));
    at_lo = out->lo | (lo & ~(uint32_t)mask);
    if (pe->nested) {
      int reason = through_second(pe, &at_hi, &at_lo, access & (READ | WRITE), 1, &page);
      if (reason) return reason + 10;
      if (page.shift < shift) shift = page.shift;
      mask = ~0ull << shift;
      out->hi = at_hi & (uint32_t)(mask >> 32);
      out->lo = at_lo & (uint32_t)mask;
      out->shift = shift;
    } else if (in_interrupt_range(at_hi, at_lo)) {
      return 14;
    }
    uint32_t wanted = access & WRITE ? A | D : A;
    if ((low & wanted) != wanted) return 20;
    int writable = (low & D) && (page.access & WRITE);
    out->access = (page.access & READ) | (path & US ? USER : 0) | (execute_disable ? 0 : EXECUTE);
    if (writable) out->access |= path & RW ? WRITE | PRIVILEGED_WRITE : PRIVILEGED_WRITE;
    return 0;
  }
}

static PasidRecord *pasid_set(uint32_t rid, uint32_t id) {
  return pasids + (((id ^ (rid * 0x27d4eb2fu)) * 0x9e3779b1u) >> 22) * PASID_WAYS;
}

static uint32_t granted(uint32_t marks, uint32_t access) {
  uint32_t write = marks & PRIVILEGED_WRITE ? WRITE : 0;
  return access & PRIVILEGED ? (marks & (READ | EXECUTE)) | write : marks & (READ | WRITE | EXECUTE);
}

__attribute__((noinline)) static int translate(uint32_t rid, uint32_t id, uint32_t hi, uint32_t lo, uint32_t access, Page *out) {
  const ContextRecord *context = contexts[rid >> 8] + (rid & 0xff);
  if (context->stamp != generation) return 30;
  if (!(context->flags & 8) || id >= context->pasids) return 31;
  const PasidRecord *pe = pasid_set(rid, id), *end = pe + PASID_WAYS;
  while (pe < end && (pe->pasid != id || pe->requester != rid || pe->stamp != generation)) pe++;
  if (pe == end) return 32;
  if ((access & PRIVILEGED) && !(pe->flags & 2)) return 33;
  int slot = lookup(iotlb, pe->space, hi, lo);
  uint32_t needed = (access & EXECUTE) | USER | (access & (READ | WRITE));
  if (slot >= 0 && (access_of(iotlb, slot) & needed) == needed) {
    out->hi = hi_of(iotlb, slot);
    out->lo = lo_of(iotlb, slot);
    out->access = granted(access_of(iotlb, slot), access);
    return 0;
  }
  Page page;
  int reason = first_stage(pe, hi, lo, access, &page);
  if (reason) return reason;
  if (page.shift > 12 && page.hi == 0 && page.lo >> page.shift == 0xfee00000u >> page.shift) return 34;
  insert(iotlb, pe->space, hi, lo, (int)page.shift, page.hi, page.lo, page.access);
  *out = page;
  out->access = granted(page.access, access);
  return 0;
}

static void before(void) {}

static int run(void) {
  Page out = {0, 0, 0, 0};
  sum = 0;
  for (size_t i = 0; i < requests.count; i += 2) {
    uint32_t reason = (uint32_t)translate(requester, pasid, requests.at[i + 1], requests.at[i], READ, &out);
    sum = mix(mix(mix(sum, out.lo), out.hi), reason | (out.access << 8));
  }
  return (int)(requests.count / 2);
}

static uint32_t checksum(void) { return sum; }

int main(int count, char **arguments) {
  if (count < 2) return 1;
  Words memory = read_words(arguments[1], "memory"), setup = read_words(arguments[1], "setup");
  requests = read_words(arguments[1], "requests");
  section = (Section){0, memory.count * 4, memory.at};
  requester = setup.at[3];
  pasid = setup.at[4];
  iotlb = iotlb_new(setup.at[5]);
  if (!setup.at[6]) structures = structures_new();
  contexts[requester >> 8] = calloc(256, sizeof(ContextRecord));
  contexts[requester >> 8][requester & 0xff] = (ContextRecord){generation, 8, 1 << 20};
  pasids = calloc(PASID_WAYS * PASID_SETS, sizeof *pasids);
  PasidRecord *pe = pasid_set(requester, pasid);
  *pe = (PasidRecord){generation, requester, pasid, 0, 7, setup.at[0], setup.at[2] >> 20, setup.at[2] << 12, setup.at[1] >> 20, setup.at[1] << 12, 0, 1, 2};
  serve(before, run, checksum);
  return 0;
}
