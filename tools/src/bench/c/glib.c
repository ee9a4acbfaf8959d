/*
 * The kind of IOTLB that QEMU keeps: a GLib hash table of allocated keys and entries. A lookup tries each page size; an invalidation
 * looks at every entry. SPDX-License-Identifier: MIT
 */
#include <glib.h>
#include "keys.h"

typedef struct {
  uint64_t page;
  uint32_t pasid;
  uint16_t source;
  uint8_t level;
} Key;
typedef struct {
  uint64_t address, out;
  uint32_t domain, pasid, shift, access;
} Entry;
/* What an invalidation removes. */
typedef struct {
  uint64_t address;
  uint32_t domain, pasid, shift;
} Range;

enum { HIT, PAGES, FLUSH, REFILL };
enum { DOMAIN_FLUSH, PASID_FLUSH, GLOBAL_FLUSH };

static GHashTable *table;
static Words lookups, ranges, flushed, setup;
static int mode;
static uint32_t sum;

/* A word that packs the key's fields, folded to half its width. */
static guint hash_of(gconstpointer of) {
  const Key *k = of;
  uint64_t packed = k->page | (uint64_t)k->source << 26 | (uint64_t)(k->level - 1) << 42 | (uint64_t)k->pasid << 44;
  return (guint)(packed ^ packed >> 32);
}

static gboolean same_key(gconstpointer one, gconstpointer other) {
  const Key *a = one, *b = other;
  return a->page == b->page && a->source == b->source && a->level == b->level && a->pasid == b->pasid;
}

static Key key_for(uint32_t space, uint64_t address, int level) {
  Key key = {0};
  key.page = address >> (3 + 9 * level);
  key.pasid = pasid_of(space);
  key.source = (uint16_t)domain_of(space);
  key.level = (uint8_t)level;
  return key;
}

static const Entry *look_up(uint32_t space, uint64_t address) {
  for (int level = 1; level <= 3; level++) {
    Key key = key_for(space, address, level);
    const Entry *entry = g_hash_table_lookup(table, &key);
    if (entry != NULL) return entry;
  }
  return NULL;
}

static void insert_all(Words of) {
  for (size_t i = 0; i < of.count; i += KEY_WORDS) {
    const uint32_t *k = of.at + i;
    uint64_t address = wide(k[1], k[2]);
    Key *key = g_malloc(sizeof *key);
    Entry *entry = g_malloc(sizeof *entry);
    *key = key_for(k[0], address, (int)(k[3] - 3) / 9);
    *entry = (Entry){address, wide(k[4], k[5]), domain_of(k[0]), pasid_of(k[0]), k[3], 3};
    g_hash_table_replace(table, key, entry);
  }
}

static void fill(void) {
  if (table != NULL) g_hash_table_destroy(table);
  table = g_hash_table_new_full(hash_of, same_key, g_free, g_free);
  insert_all(keys);
}

static gboolean in_domain(gpointer key, gpointer value, gpointer user) {
  (void)key;
  return ((const Entry *)value)->domain == ((const Range *)user)->domain;
}

static gboolean in_pasid(gpointer key, gpointer value, gpointer user) {
  return in_domain(key, value, user) && ((const Entry *)value)->pasid == ((const Range *)user)->pasid;
}

static gboolean in_range(gpointer key, gpointer value, gpointer user) {
  const Entry *e = value;
  const Range *r = user;
  uint32_t wider = e->shift > r->shift ? e->shift : r->shift;
  return in_pasid(key, value, user) && e->address >> wider == r->address >> wider;
}

static void before(void) {
  if (mode != HIT) fill();
}

static int run(void) {
  if (mode == HIT) {
    sum = 0;
    for (size_t i = 0; i < lookups.count; i += 3) {
      const Entry *e = look_up(lookups.at[i], wide(lookups.at[i + 1], lookups.at[i + 2]));
      sum = mix(mix(sum, (uint32_t)e->out), (uint32_t)(e->out >> 32) << 8 | e->access);
    }
    return (int)(lookups.count / 3);
  }
  if (mode == PAGES) {
    for (size_t i = 0; i < ranges.count; i += 3) {
      const uint32_t *r = ranges.at + i;
      Range range = {wide(r[1], r[2]), domain_of(r[0]), pasid_of(r[0]), 12 + setup.at[0]};
      g_hash_table_foreach_remove(table, in_range, &range);
    }
    return (int)(ranges.count / 3);
  }
  Range range = {0, domain_of(0), pasid_of(0), 0};
  if (setup.at[0] == GLOBAL_FLUSH) g_hash_table_remove_all(table);
  else g_hash_table_foreach_remove(table, setup.at[0] == DOMAIN_FLUSH ? in_domain : in_pasid, &range);
  if (mode == REFILL) insert_all(flushed);
  return 1;
}

static uint32_t checksum(void) {
  if (mode == HIT) return sum;
  uint32_t contents = 0;
  for (size_t i = 0; i < keys.count; i += KEY_WORDS) {
    const Entry *e = look_up(keys.at[i], wide(keys.at[i + 1], keys.at[i + 2]));
    contents = e == NULL ? mix(contents, 1) : mix(mix(contents, (uint32_t)e->out), (uint32_t)(e->out >> 32));
  }
  return contents;
}

static int mode_of(const char *name) {
  if (strcmp(name, "hit") == 0) return HIT;
  if (strcmp(name, "pages") == 0) return PAGES;
  return strcmp(name, "refill") == 0 ? REFILL : FLUSH;
}

int main(int count, char **arguments) {
  if (count < 4) return 1;
  mode = mode_of(arguments[3]);
  keys = read_words(arguments[1], "keys");
  if (mode == HIT) lookups = read_words(arguments[1], "lookups");
  else setup = read_words(arguments[1], "setup");
  if (mode == REFILL) flushed = read_words(arguments[1], "flushed");
  if (mode == PAGES) ranges = read_words(arguments[1], "ranges");
  fill();
  serve(before, run, checksum);
  return 0;
}
