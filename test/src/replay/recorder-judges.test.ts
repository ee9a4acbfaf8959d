// Who replays a recording of another unit is found out, at the right line.
import test from 'ava';
import { type UnitFactory, VtdUnit } from '@hw/intel-iommu';
import { Reg } from '@hw/intel-iommu/spec';
import { MemTx, type MemoryPort, type Translation, TxAttrs } from '@remora/core';
import { replayFile } from '@remora/tools';
import { legacyGuest } from './recorded-guest.js';

/** Drops the status words of waits. */
const lossy: UnitFactory = (config, environment, ...rest) => {
  const { memory } = environment;
  const losing: MemoryPort = {
    load: (...parameters) => memory.load(...parameters),
    read: (...parameters) => memory.read(...parameters),
    write: (...parameters) => memory.write(...parameters),
    store: (hi, lo, from, at, count) => (count === 1 ? MemTx.OK : memory.store(hi, lo, from, at, count)),
  };
  return new VtdUnit(config, { ...environment, memory: losing }, ...rest);
};

/** Answers its fifth translation with the page before. */
class Slipping extends VtdUnit {
  #count = 0;

  override translate(...parameters: Parameters<VtdUnit['translate']>): number {
    const reason = super.translate(...parameters);
    const out: Translation = parameters[5];
    if (++this.#count === 5) out.lo -= 0x1000;
    return reason;
  }
}

/** Keeps its root table over a reset. */
class Remembering extends VtdUnit {
  override reset(): void {
    const kept = this.registers.get(Reg.RTADDR);
    super.reset();
    this.registers.set(Reg.RTADDR, kept);
  }
}

const WRONG: Readonly<Record<string, { makeUnit: UnitFactory; first: RegExp }>> = {
  'a unit that writes no status': { makeUnit: lossy, first: /^ MW / },
  'a unit that answers with another page, once': {
    makeUnit: (...parameters) => new Slipping(...parameters),
    first: /^T /,
  },
};

for (const [what, { makeUnit, first }] of Object.entries(WRONG)) {
  test(`${what} does not agree with the recording, at the right line`, async t => {
    const guest = await legacyGuest(t);
    const lines = guest.finish();
    const { mismatches, differences } = await replayFile(guest.path, { makeUnit });
    t.true(mismatches > 0);
    const { line } = differences[0]!;
    t.regex(lines[line - 1]!, first);
    const alike = lines.slice(0, line).filter(each => first.test(each)).length;
    t.is(alike, what.includes('once') ? 5 : 1);
  });
}

test('the recording of a wrong unit does not agree with the model', async t => {
  const guest = await legacyGuest(t, { makeUnit: (...parameters) => new Slipping(...parameters) });
  guest.finish();
  const { mismatches } = await replayFile(guest.path);
  t.is(mismatches, 1);
  const { differences } = await replayFile(guest.path, { makeUnit: (...parameters) => new Slipping(...parameters) });
  t.deepEqual(differences, []);
});

test('a register that survives a reset is seen when it is read', async t => {
  const guest = await legacyGuest(t);
  const attrs = new TxAttrs();
  guest.unit.mmio.read(Reg.RTADDR, 4, attrs);
  guest.finish();
  const { differences } = await replayFile(guest.path, { makeUnit: (...parameters) => new Remembering(...parameters) });
  t.deepEqual(
    differences.map(({ expected }) => expected),
    ['R 020 4 0'],
  );
});
