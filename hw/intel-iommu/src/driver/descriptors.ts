/** Invalidation queue descriptors, ready to be queued: 8 words each; a 128-bit queue takes the first 4. */
import type { Field } from '@remora/bits';
import {
  ContextCacheDescriptor,
  DescriptorType,
  DeviceTlbDescriptor,
  InterruptEntryCacheDescriptor,
  IotlbDescriptor,
  PageGroupResponseDescriptor,
  PasidCacheDescriptor,
  PasidDeviceTlbDescriptor,
  PasidIotlbDescriptor,
  WaitDescriptor,
} from '../spec/index.js';

export const DESCRIPTOR_WORDS = 8;
/** A page's offset bits in the low word of an address. */
const OFFSET_MASK = 0xfff;

type Named<F> = { readonly [K in keyof F]?: number | undefined };

function build<F extends Record<string, Field>>(type: number, fields: F, values: Named<F>): Int32Array {
  const words = new Int32Array(DESCRIPTOR_WORDS);
  words[0] = type;
  for (const name in values) {
    const value = values[name];
    if (value !== undefined) fields[name]!.set(words, 0, value);
  }
  return words;
}

/** Puts the page of `(hi, lo)` where descriptors have their address: words 2 and 3. */
function address(words: Int32Array, hi: number, lo: number): Int32Array {
  words[2]! |= lo & ~OFFSET_MASK;
  words[3] = hi;
  return words;
}

/** Granularity: `Granularity` in `spec` (device: `sourceId` under `functionMask`, 0 .. 3 low bits of the function ignored). */
export function contextCacheDescriptor(g: number, did = 0, sid = 0, fm = 0): Int32Array {
  return build(DescriptorType.CONTEXT_CACHE, ContextCacheDescriptor.fields, { g, did, sid, fm });
}

/** A range of `2 ** addressMask` pages around byte address `(hi, lo)`. */
export interface PageRange {
  readonly hi: number;
  readonly lo: number;
  readonly addressMask: number;
  /** Only leaf entries changed (IH). */
  readonly leaf?: boolean;
}

export interface Drain {
  readonly reads: boolean;
  readonly writes: boolean;
}

export function iotlbDescriptor(g: number, did: number, drain: Drain, range?: PageRange): Int32Array {
  const words = build(DescriptorType.IOTLB, IotlbDescriptor.fields, {
    g,
    did,
    dr: Number(drain.reads),
    dw: Number(drain.writes),
    am: range?.addressMask,
    ih: Number(range?.leaf ?? false),
  });
  return range === undefined ? words : address(words, range.hi, range.lo);
}

/** `PasidIotlbGranularity`; PAGE needs `range`. Written to `words`, which is returned: each flush of a guest makes one. */
export function pasidIotlbDescriptor(
  g: number,
  did: number,
  pasid: number,
  range?: PageRange,
  words: Int32Array = new Int32Array(DESCRIPTOR_WORDS),
): Int32Array {
  const { fields } = PasidIotlbDescriptor;
  words.fill(0);
  words[0] = DescriptorType.PASID_IOTLB;
  fields.g.set(words, 0, g);
  fields.did.set(words, 0, did);
  fields.pasid.set(words, 0, pasid);
  if (range === undefined) return words;
  fields.am.set(words, 0, range.addressMask);
  fields.ih.set(words, 0, Number(range.leaf ?? false));
  return address(words, range.hi, range.lo);
}

/** `PasidCacheGranularity`. */
export function pasidCacheDescriptor(g: number, did = 0, pasid = 0): Int32Array {
  return build(DescriptorType.PASID_CACHE, PasidCacheDescriptor.fields, { g, did, pasid });
}

/** The range of `2 ** shift` bytes (12 .. 64) at `(hi, lo)`, as one function without PASID has it in its device TLB. */
export function deviceTlbDescriptor(sid: number, hi: number, lo: number, shift: number): Int32Array {
  const words = build(DescriptorType.DEVICE_TLB, DeviceTlbDescriptor.fields, { sid, s: Number(shift > 12) });
  return sizedAddress(words, hi, lo, shift);
}

/** As deviceTlbDescriptor, for one PASID or, with `global`, for all of the function's PASIDs. */
export function pasidDeviceTlbDescriptor(
  sid: number,
  pasid: number,
  hi: number,
  lo: number,
  shift: number,
  global = false,
): Int32Array {
  const words = build(DescriptorType.PASID_DEVICE_TLB, PasidDeviceTlbDescriptor.fields, {
    sid,
    pasid,
    g: Number(global),
    s: Number(shift > 12),
  });
  return sizedAddress(words, hi, lo, shift);
}

/** The whole address space. */
export const EVERYTHING_SHIFT = 64;

/** What a function has in its device TLB of the `2 ** shift` bytes at `(hi, lo)`, of `pasid`; 0 stands for requests without PASID (RID_PASID). */
export function deviceTlbOf(sid: number, pasid: number, hi = 0, lo = 0, shift = EVERYTHING_SHIFT): Int32Array {
  return pasid === 0 ? deviceTlbDescriptor(sid, hi, lo, shift) : pasidDeviceTlbDescriptor(sid, pasid, hi, lo, shift);
}

/** All interrupt entries, or `2 ** mask` of them from `index`. */
export function interruptEntryCacheDescriptor(index?: number, mask = 0): Int32Array {
  return build(DescriptorType.INTERRUPT_ENTRY_CACHE, InterruptEntryCacheDescriptor.fields, {
    g: Number(index !== undefined),
    iidx: index,
    im: mask,
  });
}

export interface WaitValues {
  /** Status address, 4-byte aligned, and what is written there; without them nothing is. */
  readonly statusHi?: number;
  readonly statusLo?: number;
  readonly statusData?: number;
  readonly interrupt?: boolean;
  readonly fence?: boolean;
  readonly drainPageRequests?: boolean;
}

export function waitDescriptor(values: WaitValues): Int32Array {
  const words = build(DescriptorType.WAIT, WaitDescriptor.fields, {
    sw: Number(values.statusLo !== undefined),
    if: Number(values.interrupt ?? false),
    fn: Number(values.fence ?? false),
    pd: Number(values.drainPageRequests ?? false),
    statusData: values.statusData,
  });
  words[2] = values.statusLo ?? 0;
  words[3] = values.statusHi ?? 0;
  return words;
}

export interface PageGroupResponse {
  readonly requesterId: number;
  /** Absent for a request without PASID. */
  readonly pasid?: number;
  /** 0 success, 1 invalid request, 15 failure. */
  readonly code: number;
  readonly group: number;
  /** The request was the last of its group, which older revisions want to be told. */
  readonly last?: boolean;
}

export function pageGroupResponseDescriptor(response: PageGroupResponse): Int32Array {
  return build(DescriptorType.PAGE_GROUP_RESPONSE, PageGroupResponseDescriptor.fields, {
    pp: Number(response.pasid !== undefined),
    pasid: response.pasid,
    rc: response.code,
    rid: response.requesterId,
    prgi: response.group,
    lpig: Number(response.last ?? false),
  });
}

/**
 * The size code of device-TLB descriptors (VT-d 6.5.2.5): from bit 12 up as many ones as the range has doublings beyond 8 KiB, then a zero.
 */
function sizedAddress(words: Int32Array, hi: number, lo: number, shift: number): Int32Array {
  let low = lo & ~OFFSET_MASK;
  let high = hi;
  for (let position = 12; position < shift; position++) {
    const one = position < shift - 1;
    const mask = 1 << (position & 31);
    if (position < 32) low = one ? low | mask : low & ~mask;
    else high = one ? high | mask : high & ~mask;
  }
  return address(words, high, low);
}
