/** Invalidation descriptors of fuzz programs: in order for the most part, of every type, for the pools' domains and pages. */
import type { Facts } from './naive/facts.js';
import type { DescriptorGenes } from './program.js';
import { DOMAINS, PAGES, PASIDS, RIDS, type World } from './world.js';

/** A descriptor of a type that this unit has, mostly. */
function typeOf(facts: Facts, mode: number, type: number, flags: number): number {
  const { deviceTlb, interruptRemapping } = facts;
  const types = [1, 2, 5];
  if (deviceTlb) types.push(3);
  if (interruptRemapping) types.push(4);
  if (mode !== 0) types.push(6, 6, 7);
  if (mode !== 0 && deviceTlb) types.push(8);
  return flags % 16 === 5 ? type % 16 : types[type % types.length]!;
}

/** Four quadwords; the upper two are for wide queues. `mode` is the latched TTM. */
export function descriptorWords(world: World, mode: number, genes: DescriptorGenes): bigint[] {
  const { granularity, domain, rid, pasid, page, mask, flags, flip } = genes;
  const type = typeOf(world.facts, mode, genes.type, flags);
  const low = BigInt(type) | (BigInt(granularity) << 4n);
  const did = BigInt(DOMAINS[domain]!) << 16n;
  const address = PAGES[page]!;
  // Small masks, mostly; every mask at times.
  const am = BigInt(flags % 4 === 0 ? mask : mask % 20);
  const ih = BigInt((flags >>> 2) & 1) << 6n;
  const size = BigInt((flags >>> 3) & 1);
  // Now and then another function of the device, for function masks.
  const source = BigInt(RIDS[rid]! ^ ((flags >>> 5) % 4 === 0 ? (flags >>> 7) & 7 : 0));
  const tag = BigInt(PASIDS[pasid]!) << 32n;
  const status = flags % 16 === 15 ? 0x70_0000n : world.status + BigInt((flags & 0x3f) * 4);
  const words: Readonly<Record<number, readonly [bigint, bigint]>> = {
    1: [low | did | (source << 32n) | (BigInt(flags & 3) << 48n), 0n],
    2: [low | did | (BigInt(flags & 3) << 6n), address | ih | am],
    3: [3n | (source << 32n) | (BigInt(flags & 31) << 16n), address | size],
    4: [4n | (BigInt(granularity & 1) << 4n) | (BigInt(mask % 20) << 27n) | (BigInt(flags) << 32n), 0n],
    5: [5n | (BigInt(flags & 7) << 4n) | (BigInt(flags) << 32n), status],
    6: [low | did | tag, address | ih | am],
    7: [low | did | tag, 0n],
    8: [8n | (source << 16n) | tag | (BigInt(flags & 31) << 4n), address | (size << 11n) | BigInt((flags >>> 4) & 1)],
  };
  const q = [...(words[type] ?? [low, 0n]), 0n, 0n];
  if (flip < 256) q[flip >>> 6]! ^= 1n << BigInt(flip & 63);
  return q;
}
