import test from 'ava';
import { Stage1Flush } from './stage1.js';
import { Stage1FlushBatch } from './stage1-flush-batch.js';

function flush(index: number): Stage1Flush {
  const made = new Stage1Flush();
  made.granularity = index % 3 === 0 ? 'pasid' : 'address';
  made.leaf = index % 2 === 1;
  made.pasid = 0xf_ffff - index;
  made.hi = ~index;
  made.lo = index << 12;
  made.granuleShift = 12 + (index % 50);
  made.granules = 1 + index * 2 ** 33;
  return made;
}

function batchOf(count: number): Stage1FlushBatch {
  const batch = new Stage1FlushBatch();
  const one = new Stage1Flush();
  for (let index = 0; index < count; index++) batch.add(Object.assign(one, flush(index)));
  return batch;
}

const contents = (batch: Stage1FlushBatch): Stage1Flush[] =>
  Array.from({ length: batch.length }, (_, index) => Object.assign(new Stage1Flush(), batch.begin(index)));

for (const count of [0, 1, 63, 64, 65, 300]) {
  test(`${count} flushes come out as they went in, in order`, t => {
    const batch = batchOf(count);
    t.is(batch.length, count);
    t.deepEqual(
      contents(batch),
      Array.from({ length: count }, (_, index) => flush(index)),
    );
  });
}

test('the first ones are dropped, the others keep their order, and there is room for more', t => {
  const batch = batchOf(70);
  batch.drop(67);
  t.deepEqual(contents(batch), [flush(67), flush(68), flush(69)]);
  batch.add(flush(7));
  t.deepEqual(contents(batch), [flush(67), flush(68), flush(69), flush(7)]);
  batch.drop(4);
  t.is(batch.length, 0);
});

test('cleared, it is as new', t => {
  const batch = batchOf(5);
  batch.accepted = 3;
  batch.clear();
  t.deepEqual([batch.length, batch.accepted], [0, 0]);
  batch.add(flush(1));
  t.deepEqual(contents(batch), [flush(1)]);
});

test('whoever wants to know hears for which entry the host works', t => {
  const batch = batchOf(3);
  const seen: number[] = [];
  batch.begun = index => void seen.push(index);
  for (const index of [0, 2, 1]) batch.begin(index);
  t.deepEqual(seen, [0, 2, 1]);
});
