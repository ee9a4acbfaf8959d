/**
 * Linux under caching mode, as recorded, with a host that shadows every function: each translation that a device asked for is one that the host
 * has at that moment, none that was refused is, and at the end the host has what the tables say.
 *
 * A recording tells what the recorded unit read, when it read it: mostly at a translation, after the flush that reported the entry. So each
 * entry has its next recorded value from the moment on at which the one before was last read.
 */
import { basename } from 'node:path';
import test from 'ava';
import { Access, AddressSpace, IommuNotify, Ledger, Ram, Region, type Section, TxAttrs } from '@remora/core';
import type { PciBus } from '@remora/pci';
import { guestRecordings, readTrace, replayConfig, type TraceOperation, type TranslationLine } from '@remora/tools';
import { Shadows, VtdUnit } from '@hw/intel-iommu';
import { NaiveWalker } from '../replay/naive-walker.js';

const PAGE = 4096;
const GUEST_BYTES = 768 * 0x10_0000;
const GCMD = 0x18;
const RTADDR = 0x20;
const SRTP = 1 << 30;
const TE = 1 << 31;

function isTranslation(line: TraceOperation['line']): line is TranslationLine {
  return line.kind === 'T' || line.kind === 'TF';
}

interface Value {
  readonly hi: number;
  readonly lo: number;
  readonly bytes: Uint8Array;
}

/** What each operation must find in memory that was not there before it. */
function lookAhead(operations: readonly TraceOperation[]): Value[][] {
  const values: Value[][] = operations.map(() => []);
  const lastUsed = new Map<string, number>();
  /** The entry that translates a function's page: the recorded unit did not read it again while it had it cached. */
  const leaves = new Map<string, string>();
  for (const [index, { line, nested }] of operations.entries()) {
    let leaf: string | undefined;
    for (const read of nested) {
      if (read.kind !== 'MR' || read.bytes === undefined) continue;
      const { hi, lo } = read.address;
      leaf = `${hi}:${lo}:${read.bytes.length}`;
      const from = Math.min(index, (lastUsed.get(leaf) ?? -1) + 1);
      values[from]!.push({ hi, lo, bytes: read.bytes });
      lastUsed.set(leaf, index);
    }
    if (!isTranslation(line)) continue;
    const page = `${line.requesterId}:${line.address.hi}:${line.address.lo >>> 12}`;
    if (leaf !== undefined) leaves.set(page, leaf);
    else if (leaves.has(page)) lastUsed.set(leaves.get(page)!, index);
  }
  return values;
}

/** Follows one function's space and keeps what it is told, page by page: the frame times 4, and Access bits. */
class Follower {
  readonly pages = new Map<number, number>();
  translated = false;
  told = 0;

  constructor(space: AddressSpace) {
    let registration: Disposable | undefined;
    space.listen({
      regionAdd: (section: Section) => {
        const { translator } = section.region;
        if (translator?.notifiers === undefined) return;
        this.translated = true;
        const notifier = {
          wants: IommuNotify.MAP | IommuNotify.UNMAP,
          startFrame: 0,
          endFrame: 2 ** 52,
          notify: ({
            frame,
            pages,
            outFrame,
            access,
          }: {
            frame: number;
            pages: number;
            outFrame: number;
            access: number;
          }) => {
            this.told++;
            if (access === 0)
              for (const page of [...this.pages.keys()])
                if (page >= frame && page < frame + pages) this.pages.delete(page);
            for (let page = 0; access !== 0 && page < pages; page++)
              this.pages.set(frame + page, (outFrame + page) * 4 + access);
            return 0;
          },
        };
        registration = translator.notifiers.add(notifier);
        translator.notifiers.replay(notifier);
      },
      regionRemove: section => {
        if (section.region.translator?.notifiers === undefined) return;
        this.translated = false;
        registration?.[Symbol.dispose]();
        this.pages.clear();
      },
    });
  }
}

class ShadowedReplay {
  readonly followers = new Map<number, Follower>();
  /** Pages that were compared with the tables, and those that differed. */
  compared = 0;
  readonly different: string[] = [];
  readonly walker: NaiveWalker;
  readonly #memory: AddressSpace;
  readonly #shadows: Shadows;
  readonly #unit: VtdUnit;
  readonly #attrs = new TxAttrs();
  #root = 0n;

  constructor(config: ReturnType<typeof replayConfig>, requesters: Iterable<number>) {
    const root = Region.container('guest', 2 ** 40);
    root.add(0, Region.ram('ram', Ram.allocate(GUEST_BYTES)));
    this.#memory = new AddressSpace('guest', root);
    this.walker = new NaiveWalker(this.#memory);
    const shadows = new Shadows(() => this.#unit, {
      name: 'shadows',
      memory: this.#memory,
      ledger: new Ledger(),
      warn: () => undefined,
    });
    this.#shadows = shadows;
    this.#unit = new VtdUnit(config, {
      name: 'replay',
      memory: this.#memory,
      sendMsi: () => undefined,
      propagation: {
        contextCacheInvalidate: (...values) => shadows.contextCacheInvalidate(...values),
        pasidCacheInvalidate: (...values) => shadows.pasidCacheInvalidate(...values),
        iotlbInvalidate: (granularity, domain, hi, lo, mask) =>
          shadows.iotlbInvalidate(granularity, domain, hi, lo, mask),
        rootTableSet: () => void shadows.everything(),
        translationChanged: () => void shadows.everything(),
        reset: () => void shadows.everything(),
      },
    });
    for (const id of requesters) {
      const bus = { number: id >>> 8 } as PciBus;
      const translator = {
        translate: () => 1,
      };
      this.followers.set(id, new Follower(this.#shadows.spaceFor(bus, id & 0xff, translator)));
    }
  }

  put({ hi, lo, bytes }: Value): void {
    this.#memory.write(hi, lo, bytes);
  }

  perform({ line }: TraceOperation): void {
    const { mmio } = this.#unit;
    if (line.kind === 'RESET') this.#unit.reset();
    if (line.kind === 'M') this.#memory.write(line.address.hi, line.address.lo, line.bytes!);
    if (line.kind !== 'W') return;
    if (line.offset === GCMD && (line.value.lo & TE) === 0) this.#compareAll();
    if (line.offset === RTADDR) this.#root = (BigInt(line.value.hi) << 32n) | BigInt(line.value.lo);
    if (line.offset === GCMD && (line.value.lo & SRTP) !== 0) this.walker.root = this.#root;
    if (line.size === 4) mmio.write(line.offset, line.value.lo, 4, this.#attrs);
    else mmio.write64!(line.offset, line.value.hi, line.value.lo, this.#attrs);
  }

  /** What the host would do with the recorded request. */
  serves({ requesterId, address, access }: TranslationLine): string {
    const { pages, translated } = this.followers.get(requesterId)!;
    if (!translated) return `${address.lo.toString(16)} direct`;
    const found = pages.get(address.hi * 0x10_0000 + (address.lo >>> 12));
    const wanted = access & Access.READ_WRITE;
    if (found === undefined || (found & wanted) !== wanted) return 'refused';
    return (Math.floor(found / 4) * PAGE).toString(16);
  }

  /** Before translation ends: the pages that the host has, against the tables. */
  #compareAll(): void {
    for (const [id, { pages, translated }] of this.followers) {
      if (!translated) continue;
      for (const [page, found] of pages) {
        const walk = this.walker.translate(id, BigInt(page) * 4096n);
        const access = (walk?.read === true ? Access.READ : 0) | (walk?.write === true ? Access.WRITE : 0);
        const now = walk === undefined ? 0 : Number(walk.page / 4096n) * 4 + access;
        this.compared++;
        if (now !== found) this.different.push(`${id.toString(16)}: page ${page.toString(16)}`);
      }
    }
  }
}

async function replay(
  file: string,
): Promise<{ run: ShadowedReplay; served: number; refused: number; wrong: string[] }> {
  const operations: TraceOperation[] = [];
  let config: ReturnType<typeof replayConfig> | undefined;
  for await (const item of readTrace(file)) {
    if ('cap' in item) config = replayConfig(file, item);
    else operations.push(item);
  }
  const requesters = new Set(operations.flatMap(({ line }) => (isTranslation(line) ? [line.requesterId] : [])));
  const values = lookAhead(operations);
  const run = new ShadowedReplay(config!, requesters);
  const result = { run, served: 0, refused: 0, wrong: [] as string[] };
  for (const [index, operation] of operations.entries()) {
    for (const value of values[index]!) run.put(value);
    run.perform(operation);
    const { line } = operation;
    if (!isTranslation(line)) continue;
    const got = run.serves(line);
    const expected = line.kind === 'TF' ? 'refused' : line.text.split(' -> ')[1]!.split(' ')[0]!;
    if (got !== expected) result.wrong.push(`line ${line.number}: ${line.text}, the host: ${got}`);
    else result[got === 'refused' ? 'refused' : 'served']++;
  }
  return result;
}

/** Those of guests under caching mode: how many translations. */
const UNDER_CACHING_MODE: Readonly<Record<string, { served: number; refused: number }>> = {
  A61: { served: 3712, refused: 0 },
  B72: { served: 3945, refused: 0 },
  E61leg: { served: 202, refused: 38 },
};

for (const file of guestRecordings()) {
  const name = basename(file).split('.')[0]!;
  const expected = UNDER_CACHING_MODE[name];
  if (expected === undefined) continue;
  test(`${name}: a host that shadows serves what was served, and refuses what was refused`, async t => {
    const { run, served, refused, wrong } = await replay(file);
    t.deepEqual({ served, refused, wrong }, { ...expected, wrong: [] });
    t.deepEqual(run.different, []);
    t.true(run.compared > 0, `${run.compared} pages`);
    const told = [...run.followers.values()].reduce((sum, each) => sum + each.told, 0);
    t.true(told > 40, `${told} changes were told`);
  });
}
