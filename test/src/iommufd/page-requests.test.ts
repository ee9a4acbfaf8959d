/** A lent device asks for a page: its host's unit, the kernel's fault queue, the guest's vIOMMU, the guest, and all the way back. */
import test from 'ava';
import { owner } from '@remora/testing';
import { LentEngine } from './lent-engine.js';

const PAGE = 4096;
const AT = 0x1_2345_6000;

test('the device waits for the page, the guest maps it and answers, and the bytes arrive', t => {
  const at = owner(t)(new LentEngine());
  const { rig, space } = at;
  const fill = { pasid: space.pasid, to: AT * PAGE, length: 4, pattern: 0x0101_0101 };
  t.like(space.engine.fill(fill), { busy: true, moved: 0 });
  t.is(at.handle(), 1);
  t.like(at.withheld[0], { requesterId: rig.requesterId(), pasid: space.pasid, write: true, read: false, last: true });
  const frame = space.page(AT);
  t.true(space.engine.result().busy, 'the page alone does not help');
  t.is(at.answer(), 0);
  t.like(space.engine.result(), { ok: true, busy: false, moved: 4 });
  t.deepEqual(rig.guest.read(frame, 5), Uint8Array.of(1, 1, 1, 1, 0));
});
