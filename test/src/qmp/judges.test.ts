/** The judges of the comparison with QEMU: each kind of difference is found. */
import test from 'ava';
import { SchemaAgreement } from './schema-agreement.js';
import { differences, shapeOf } from './shape.js';

const between = (ours: unknown, theirs: unknown): string[] => differences(shapeOf(ours), shapeOf(theirs));

test('keys and types of replies', t => {
  const theirs = { list: [{ id: 1, name: 'a' }, { id: 2 }], deep: { on: true } };
  t.deepEqual(between(theirs, theirs), []);
  t.deepEqual(between({ list: [{ id: 7 }], deep: { on: false } }, theirs), []);
  t.deepEqual(between({ list: [], deep: { on: true } }, theirs), []);
  t.deepEqual(between({ list: [{ id: 1 }, { name: 'b' }], deep: { on: true } }, theirs), ['.list[]: id is missing']);
  t.deepEqual(between({ list: [{ id: '1' }], deep: { on: true } }, theirs), ['.list[].id: string, not number']);
  t.deepEqual(between({ list: [{ id: 1, x: 1 }], deep: { on: true } }, theirs), ['.list[]: x is unknown']);
  t.deepEqual(between({ list: {}, deep: { on: true } }, theirs), ['.list: object, not array']);
  t.deepEqual(between({ list: [] }, theirs), [': deep is missing']);
});

test('schemas, whatever types are called', t => {
  const schema = (name: string, members: object[], ret = 'str', json = 'string'): object[] => [
    { name: 'run', 'meta-type': 'command', 'arg-type': name, 'ret-type': ret },
    { name, 'meta-type': 'object', members },
    { name: 'str', 'meta-type': 'builtin', 'json-type': json },
    { name: '[str]', 'meta-type': 'array', 'element-type': 'str' },
  ];
  const path = { name: 'path', type: 'str' };
  const depth = { name: 'depth', type: 'str', default: null };
  const theirs = schema('7', [path, depth]);
  const found = (ours: object[]): string[] => new SchemaAgreement(ours, theirs).differences;
  t.deepEqual(found(schema('1', [depth, path])), []);
  t.deepEqual(found(schema('1', [path])), [], 'what is optional there may be absent here');
  t.deepEqual(found(schema('1', [depth])), ['run: path is missing']);
  t.deepEqual(found(schema('1', [{ ...path, default: null }])), ['run: path is optional here']);
  t.deepEqual(found(schema('1', [path, { name: 'depth', type: 'str' }])), ['run: depth is optional there']);
  t.deepEqual(found(schema('1', [path, { name: 'x', type: 'str' }])), ['run: x is unknown']);
  t.deepEqual(found(schema('1', [path], '[str]')), ['run reply: array, not string']);
  t.deepEqual(found(schema('1', [path], 'str', 'int')), ['run.path: int, not string', 'run reply: int, not string']);
  t.deepEqual(found([{ name: 'fly', 'meta-type': 'event', 'arg-type': '1' }]), ['fly: there is no such event']);
});
