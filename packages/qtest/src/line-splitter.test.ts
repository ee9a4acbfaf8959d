import test from 'ava';
import { LineSplitter } from './line-splitter.js';

function lines(splitter: LineSplitter, text: string): (string | undefined)[] {
  return [...splitter.push(Buffer.from(text))];
}

test('lines come out whole, however they were cut', t => {
  const splitter = new LineSplitter(100);
  t.deepEqual(lines(splitter, 'one\ntw'), ['one']);
  t.is(splitter.held, 2);
  t.deepEqual(lines(splitter, 'o'), []);
  t.deepEqual(lines(splitter, '\n\nthree\n'), ['two', '', 'three']);
  t.is(splitter.held, 0);
});

test('a line that is too long is told of once, at its end, and not held', t => {
  const splitter = new LineSplitter(4);
  t.deepEqual(lines(splitter, '1234\n12345'), ['1234']);
  t.is(splitter.held, 0);
  t.deepEqual(lines(splitter, '6789'.repeat(10)), []);
  t.is(splitter.held, 0);
  t.deepEqual(lines(splitter, '\nok\n'), [undefined, 'ok']);
});

test('the chunk may be used again', t => {
  const splitter = new LineSplitter(10);
  const chunk = Buffer.from('ab');
  t.deepEqual([...splitter.push(chunk)], []);
  chunk.fill(0);
  t.deepEqual(lines(splitter, '\n'), ['ab']);
});
