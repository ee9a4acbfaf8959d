/* Address spaces and translations of the IOTLB's comparisons. SPDX-License-Identifier: MIT */
#ifndef KEYS_H
#define KEYS_H
#include "peer.h"

enum { KEY_WORDS = 6, DOMAINS = 16 };

static Words keys;

static inline uint32_t domain_of(uint32_t space) { return 1 + space % DOMAINS; }
static inline uint32_t pasid_of(uint32_t space) { return 1 + space / DOMAINS; }
static inline uint64_t wide(uint32_t hi, uint32_t lo) { return ((uint64_t)hi << 32) | lo; }
#endif
