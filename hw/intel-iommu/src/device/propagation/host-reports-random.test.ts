/** Whatever happens: a group of page requests is answered once, by the guest or for it, and none is forgotten. */
import test from 'ava';
import fc from 'fast-check';
import { Errno, NO_PASID } from '@remora/core';
import { Fsts, GlobalCommand, PageGroupResponseDescriptor, Prs, Reg } from '../../spec/index.js';
import { RID } from '../bench.test.helper.js';
import { hosted, PASID, ScriptedContext } from './hosted-bench.test.helper.js';

const RUNS = 400;
const PASIDS = [NO_PASID, PASID, 44, 0x4_0000];

/** A host that knows which groups wait. */
class StrictContext extends ScriptedContext {
  readonly waiting = new Set<string>();
  answered = 0;

  override respondToPage(_user: number, pasid: number, group: number): number {
    const key = `${pasid}/${group}`;
    if (!this.waiting.has(key)) throw new Error(`${key} is answered, and does not wait`);
    if (this.response === 0 || this.response === -Errno.EINVAL) {
      this.waiting.delete(key);
      this.answered++;
    }
    return this.response;
  }
}

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      what: fc.constant('ask' as const),
      pasid: pick(PASIDS),
      group: pick([0, 1, 2]),
      access: pick([0, 1, 2, 3, 5]),
      last: fc.boolean(),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      what: fc.constant('respond' as const),
      pasid: pick(PASIDS),
      group: pick([0, 1, 2]),
      code: pick([0, 1, 15, 7]),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ what: fc.constant('host' as const), response: pick([0, -Errno.EIO, -Errno.EINVAL]) }),
  },
  { weight: 2, arbitrary: fc.record({ what: pick(['drain', 'clear', 'pri-on', 'pri-off', 'te', 'fault'] as const) }) },
);

function pick<T>(values: readonly T[]): fc.Arbitrary<T> {
  return fc.constantFrom(...values);
}

test('groups are answered once, and none is forgotten', t => {
  let answered = 0;
  const run = fc.property(fc.array(step, { minLength: 30, maxLength: 60 }), steps => {
    const at = hosted();
    const { bench, bus } = at;
    at.propagation.detach(bus, RID & 0xff);
    bus.unplug(at.fn);
    const host = new StrictContext();
    const fn = at.lend(RID & 0xff, host);
    const enable = (on: number): void => fn.config.write(fn.priCapability!.offset + 4, on, 2);
    for (const each of steps) {
      switch (each.what) {
        case 'ask': {
          const { pasid, group, access, last } = each;
          if (host.waiting.has(`${pasid}/${group}`)) break;
          if (last) host.waiting.add(`${pasid}/${group}`);
          host.ask(group, { pasid, access, last });
          break;
        }
        case 'respond': {
          const { pasid, group, code } = each;
          const tagged = pasid === NO_PASID ? { pp: 0, pasid: 0 } : { pp: 1, pasid };
          at.queue(
            PageGroupResponseDescriptor.encode({ type: 9, rc: code, rid: RID, lpig: 1, prgi: group, ...tagged }),
          );
          break;
        }
        case 'host':
          host.response = each.response;
          break;
        case 'drain':
          bench.write32(Reg.PQH, bench.read32(Reg.PQT));
          bench.write32(Reg.PRS, Prs.PRO | Prs.PPR);
          break;
        case 'clear':
          bench.write32(Reg.FSTS, Fsts.IQE);
          break;
        case 'te':
          bench.write32(Reg.GCMD, (bench.read32(Reg.GSTS) & 0x96ff_ffff) ^ GlobalCommand.TE);
          break;
        case 'fault':
          host.fault(0x71);
          break;
        default:
          enable(each.what === 'pri-on' ? 1 : 0);
      }
    }
    host.response = 0;
    at.propagation.detach(bus, RID & 0xff);
    answered += host.answered;
    return host.waiting.size === 0;
  });
  fc.assert(run, { numRuns: RUNS, seed: 1 });
  t.true(answered > 2 * RUNS, `${answered} groups were answered`);
});
