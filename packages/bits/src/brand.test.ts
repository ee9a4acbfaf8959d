import test from 'ava';
import { gpa, hpa, hva, iova } from './brand.js';

test('addresses are integers below 2^53', t => {
  for (const make of [iova, gpa, hpa, hva]) {
    t.is(make(0x1000) as number, 0x1000);
    t.is(make(2 ** 53 - 1) as number, 2 ** 53 - 1);
    for (const wrong of [-1, 0.5, 2 ** 53, NaN]) t.throws(() => make(wrong), { instanceOf: RangeError });
  }
});

test('the message says which space', t => {
  t.throws(() => iova(-1), { message: 'not an IOVA: -1' });
  t.throws(() => gpa(-1), { message: 'not a guest-physical address: -1' });
  t.throws(() => hpa(-1), { message: 'not a host-physical address: -1' });
  t.throws(() => hva(-1), { message: 'not a host-virtual address: -1' });
});
