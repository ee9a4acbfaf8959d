import test from 'ava';
import { Errno } from '@remora/core';
import { PASID_LIMIT, PasidSpace } from './pasid-space.js';

const alice = { name: 'alice' };
const bob = { name: 'bob' };

function space(): PasidSpace {
  const pasids = new PasidSpace(5);
  pasids.enter(alice);
  pasids.enter(bob);
  return pasids;
}

test('PASIDs are unique over all processes, in range and never 0', t => {
  const pasids = space();
  const given = [alice, bob, alice, bob].map(owner => pasids.allocate(owner, 0, 4, 1000));
  t.deepEqual(given.sort(), [1, 2, 3, 4]);
  t.is(pasids.allocate(alice, 0, 4, 1000), -Errno.ENOSPC);
  t.is(pasids.allocate(alice, 0, 0, 1000), -Errno.ENOSPC);
  t.is(pasids.allocate(alice, 5, 5, 1000), 5);
});

test('the seed decides where the search begins', t => {
  const first = (seed: number): number => {
    const pasids = new PasidSpace(seed);
    pasids.enter(alice);
    return pasids.allocate(alice, 1, PASID_LIMIT - 1, 1000);
  };
  t.is(first(1), first(1));
  t.not(first(1), first(2));
});

test('the search wraps around inside the range', t => {
  const pasids = space();
  t.is(pasids.allocate(alice, PASID_LIMIT - 1, 0xffff_ffff, 1000), PASID_LIMIT - 1);
  t.is(pasids.allocate(alice, 10, 20, 1000), 10);
  t.is(pasids.allocate(alice, PASID_LIMIT, 0xffff_ffff, 1000), -Errno.ENOSPC);
  t.is(pasids.allocate(alice, 3, 2, 1000), -Errno.EINVAL);
});

test('the quota counts what a process owns', t => {
  const pasids = space();
  const one = pasids.allocate(alice, 1, 100, 2);
  pasids.allocate(alice, 1, 100, 2);
  t.is(pasids.allocate(alice, 1, 100, 2), -Errno.ENOSPC);
  t.true(pasids.allocate(bob, 1, 100, 2) > 0);
  t.is(pasids.free(alice, one), 0);
  t.true(pasids.allocate(alice, 1, 100, 2) > 0);
});

test('who frees: nobody has it, somebody else has it, it is bound', t => {
  const pasids = space();
  const mine = pasids.allocate(alice, 1, 100, 1000);
  t.is(pasids.free(alice, 99), -Errno.ENOENT);
  t.is(pasids.free(bob, mine), -Errno.EACCES);
  pasids.countBinding(mine, 1);
  t.is(pasids.free(alice, mine), -Errno.EBUSY);
  pasids.countBinding(mine, -1);
  t.is(pasids.free(alice, mine), 0);
  t.is(pasids.free(alice, mine), -Errno.ENOENT);
});

test('the last container takes the PASIDs along, the one before does not', t => {
  const pasids = space();
  pasids.enter(alice);
  const mine = pasids.allocate(alice, 1, 100, 1000);
  const his = pasids.allocate(bob, 1, 100, 1000);
  pasids.leave(alice);
  t.deepEqual(
    pasids.state().map(state => state.pasid),
    [mine, his].sort((a, b) => a - b),
  );
  pasids.leave(alice);
  t.deepEqual(pasids.state(), [{ pasid: his, owner: 'bob', bound: 0 }]);
});
