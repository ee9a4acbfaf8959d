import test from 'ava';
import { Random } from './random.js';

const draw = (seed: number, count: number): number[] => {
  const random = new Random(seed);
  return Array.from({ length: count }, () => random.next());
};

test('the same seed draws the same numbers, another one others', t => {
  t.deepEqual(draw(1, 20), draw(1, 20));
  t.notDeepEqual(draw(1, 20), draw(2, 20));
  t.deepEqual(draw(2 ** 32 + 1, 5), draw(1, 5), 'seeds are 32 bits');
});

test('numbers are unsigned 32 bits, spread over their range', t => {
  const numbers = draw(7, 4000);
  t.true(numbers.every(value => Number.isInteger(value) && value >= 0 && value < 2 ** 32));
  t.is(new Set(numbers).size, numbers.length, 'no short cycle');
  for (let position = 0; position < 32; position++) {
    const ones = numbers.filter(value => (value >>> position) & 1).length;
    t.true(ones > 1800 && ones < 2200, `bit ${position} is set ${ones} times`);
  }
});

test('below() reaches every value and no other', t => {
  const random = new Random(3);
  const seen = new Set(Array.from({ length: 500 }, () => random.below(7)));
  t.deepEqual([...seen].sort(), [0, 1, 2, 3, 4, 5, 6]);
  t.is(random.below(1), 0);
});

test('shuffle() keeps the items, moves them, and works on typed arrays', t => {
  const items = Int32Array.from({ length: 100 }, (_, index) => index);
  const shuffled = new Random(5).shuffle(items.slice());
  t.notDeepEqual(shuffled, items);
  t.deepEqual(shuffled.slice().sort(), items);
  t.deepEqual(new Random(5).shuffle(items.slice()), shuffled);
  t.deepEqual(new Random(5).shuffle([]), []);
});
