/**
 * Address spaces apart: an IOVA is not a guest-physical address, and neither is a host address. Brands cost nothing at run
 * time; they make the compiler refuse the mix-up that this field is plagued by.
 */
declare const space: unique symbol;

/** A byte address below 2^53 in the space `S`. */
export type Address<S extends string> = number & { readonly [space]: S };

/** What a device puts on the bus: translated by an IOMMU. */
export type Iova = Address<'iova'>;
/** Guest-physical. */
export type Gpa = Address<'gpa'>;
/** Host-physical. */
export type Hpa = Address<'hpa'>;
/** Virtual, in one host process. */
export type Hva = Address<'hva'>;

function address(value: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not ${what}: ${value}`);
  return value;
}

/** @throws RangeError unless `value` is an integer in [0, 2^53). */
export const iova = (value: number): Iova => address(value, 'an IOVA') as Iova;
/** @throws RangeError unless `value` is an integer in [0, 2^53). */
export const gpa = (value: number): Gpa => address(value, 'a guest-physical address') as Gpa;
/** @throws RangeError unless `value` is an integer in [0, 2^53). */
export const hpa = (value: number): Hpa => address(value, 'a host-physical address') as Hpa;
/** @throws RangeError unless `value` is an integer in [0, 2^53). */
export const hva = (value: number): Hva => address(value, 'a host-virtual address') as Hva;
