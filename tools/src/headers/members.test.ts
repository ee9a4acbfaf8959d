import test from 'ava';
import { structMembers } from './members.js';

test('members of plain, nested and anonymous kinds, without holes and flexible arrays', t => {
  const source = `
    struct other { int not_this; };
    struct thing {
      __u32 argsz, flags;
      struct other one;
      union { struct other small; __u64 large; struct { __u8 deep[4]; }; };
      struct { int inner; } named;
      __u64 *pointer;
      __u64 table[2][3] __attribute__((aligned(8)));
      unsigned int bits : 3;
      __u8 padding[4];
      __u32 reserved;
      __u32 __pad2;
      __u8 data[];
    };`;
  t.deepEqual(structMembers(source, 'thing'), [
    'argsz',
    'flags',
    'one',
    'small',
    'large',
    'deep',
    'named',
    'pointer',
    'table',
    'bits',
  ]);
});

test('a structure that is only mentioned is not defined', t => {
  t.is(structMembers('struct thing; struct thing_two { int a; };', 'thing'), undefined);
});
