/**
 * The commands of a guest that an SMMUv3 host takes over iommufd (smmuv3.md 5.3, 10.4; peers.md 3.4): what each may carry, and what becomes of it
 * before the unit sees it. A command is 128 bits: four words, the lowest first.
 */
import { Errno } from '@remora/core';

export const SmmuOpcode = {
  CFGI_CD: 0x05,
  CFGI_CD_ALL: 0x06,
  TLBI_NH_ALL: 0x10,
  TLBI_NH_ASID: 0x11,
  TLBI_NH_VA: 0x12,
  TLBI_NH_VAA: 0x13,
  TLBI_NSNH_ALL: 0x30,
  ATC_INV: 0x40,
} as const;

export const SMMU_COMMAND_WORDS = 4;
export const SMMU_COMMAND_BYTES = 16;

/** Where fields are: the word, the lowest bit, the number of bits. */
const field = (word: number, low: number, bits: number) => ({ word, low, mask: bits === 32 ? -1 : (1 << bits) - 1 });
type Field = ReturnType<typeof field>;

const OPCODE = field(0, 0, 8);
const VMID = field(1, 0, 16);
const ASID = field(1, 16, 16);
const SID = field(1, 0, 32);
const SSV = field(0, 11, 1);
const SSID = field(0, 12, 20);
const GLOBAL = field(0, 9, 1);
const RANGE_NUM = field(0, 12, 5);
const RANGE_SCALE = field(0, 20, 6);
const LEAF = field(2, 0, 1);
const TTL = field(2, 8, 2);
const GRANULE = field(2, 10, 2);
const ATC_SIZE = field(2, 0, 6);
const ADDRESS_LO = field(2, 12, 20);
const ADDRESS_HI = field(3, 0, 32);

/** The fields that a guest's command may set; any other bit is illegal. */
const ALLOWED: Readonly<Record<number, readonly Field[]>> = {
  [SmmuOpcode.CFGI_CD]: [SSV, SSID, SID, LEAF],
  [SmmuOpcode.CFGI_CD_ALL]: [SID],
  [SmmuOpcode.TLBI_NH_ALL]: [VMID],
  [SmmuOpcode.TLBI_NH_ASID]: [VMID, ASID],
  [SmmuOpcode.TLBI_NH_VA]: [VMID, ASID, RANGE_NUM, RANGE_SCALE, LEAF, TTL, GRANULE, ADDRESS_LO, ADDRESS_HI],
  [SmmuOpcode.TLBI_NH_VAA]: [VMID, RANGE_NUM, RANGE_SCALE, LEAF, TTL, GRANULE, ADDRESS_LO, ADDRESS_HI],
  [SmmuOpcode.TLBI_NSNH_ALL]: [],
  [SmmuOpcode.ATC_INV]: [GLOBAL, SSV, SSID, SID, ATC_SIZE, ADDRESS_LO, ADDRESS_HI],
};

const WITH_SID: readonly number[] = [SmmuOpcode.CFGI_CD, SmmuOpcode.CFGI_CD_ALL, SmmuOpcode.ATC_INV];

function get(command: Int32Array, { word, low, mask }: Field): number {
  return ((command[word]! >>> low) & mask) >>> 0;
}

function set(command: Int32Array, { word, low, mask }: Field, value: number): void {
  command[word] = (command[word]! & ~(mask << low)) | ((value & mask) << low);
}

/** A command as tests write it; fields that an opcode does not have are passed over. */
export interface SmmuCommand {
  readonly opcode: number;
  readonly vmid?: number;
  readonly asid?: number;
  readonly sid?: number;
  readonly ssid?: number;
  /** Byte address, below 2^53 and aligned to 4 KiB. */
  readonly address?: number;
  readonly leaf?: boolean;
}

/** Its 16 bytes. */
export function smmuCommand({ opcode, vmid, asid, sid, ssid, address, leaf }: SmmuCommand): Uint8Array {
  const words = new Int32Array(SMMU_COMMAND_WORDS);
  set(words, OPCODE, opcode);
  if (vmid !== undefined) set(words, VMID, vmid);
  if (asid !== undefined) set(words, ASID, asid);
  if (sid !== undefined) set(words, SID, sid);
  if (ssid !== undefined) {
    set(words, SSID, ssid);
    if (opcode === SmmuOpcode.ATC_INV) set(words, SSV, 1);
  }
  if (address !== undefined) {
    words[2] = words[2]! | (address | 0);
    words[3] = Math.floor(address / 2 ** 32);
  }
  if (leaf === true) set(words, LEAF, 1);
  return new Uint8Array(words.buffer);
}

/** What a command flushes, decoded; -1 where it names none. */
export interface SmmuFlush {
  readonly opcode: number;
  readonly vmid: number;
  readonly asid: number;
  readonly sid: number;
  readonly ssid: number;
  /** Page frames [first, first + pages); everything if pages is Infinity. */
  readonly first: number;
  readonly pages: number;
}

/** log2 of a granule in pages of 4 KiB: TG 1 to 3. */
const GRANULE_SHIFT = [0, 0, 2, 4];
/** ATC_INV of this size and above means everything. */
const ATC_EVERYTHING = 52;

export function decodeSmmuFlush(command: Int32Array): SmmuFlush {
  const opcode = get(command, OPCODE);
  const allowed = ALLOWED[opcode] ?? [];
  const named = (one: Field): number => (allowed.includes(one) ? get(command, one) : -1);
  let first = get(command, ADDRESS_HI) * 2 ** 20 + get(command, ADDRESS_LO);
  let pages = Infinity;
  if (opcode === SmmuOpcode.ATC_INV) {
    const size = get(command, ATC_SIZE);
    if (size < ATC_EVERYTHING) pages = 2 ** size;
  } else if (allowed.includes(GRANULE)) {
    const granule = get(command, GRANULE);
    pages =
      granule === 0 ? 1 : (get(command, RANGE_NUM) + 1) * 2 ** (get(command, RANGE_SCALE) + GRANULE_SHIFT[granule]!);
  }
  if (pages === Infinity) first = 0;
  const ssid = allowed.includes(SSV) && opcode === SmmuOpcode.ATC_INV && get(command, SSV) === 0 ? -1 : named(SSID);
  return { opcode, vmid: named(VMID), asid: named(ASID), sid: named(SID), ssid, first, pages };
}

/** Which StreamID of the unit a guest's StreamID stands for; undefined if there is no virtual device. */
export type StreamIds = (virtual: number) => number | undefined;

/**
 * Makes of a guest's command the unit's own, in place: the VMID is the VM's, StreamIDs are the unit's, and "everything" is everything of this VM.
 * -EIO for an opcode that a guest may not use, a bit that its opcode does not have, and a StreamID without a virtual device.
 */
export function convertSmmuCommand(command: Int32Array, vmid: number, streamIds: StreamIds): number {
  const opcode = get(command, OPCODE);
  const allowed = ALLOWED[opcode];
  if (allowed === undefined) return -Errno.EIO;
  const legal = new Int32Array(SMMU_COMMAND_WORDS);
  for (const { word, low, mask } of [OPCODE, ...allowed]) legal[word] = legal[word]! | (mask << low);
  for (let word = 0; word < SMMU_COMMAND_WORDS; word++) if ((command[word]! & ~legal[word]!) !== 0) return -Errno.EIO;
  if (WITH_SID.includes(opcode)) {
    const sid = streamIds(get(command, SID));
    if (sid === undefined) return -Errno.EIO;
    set(command, SID, sid);
    return 0;
  }
  if (opcode === SmmuOpcode.TLBI_NSNH_ALL) set(command, OPCODE, SmmuOpcode.TLBI_NH_ALL);
  set(command, VMID, vmid);
  return 0;
}
