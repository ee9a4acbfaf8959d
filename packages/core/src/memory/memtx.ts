/** The outcome of a memory transaction. A guest's mistake ends here, never in an exception. QEMU: MemTxResult. */
export const MemTx = {
  OK: 0,
  /** The target answered with an error. */
  ERROR: 1,
  /** Nothing answers at that address. */
  DECODE_ERROR: 2,
  /** Something on the way (an IOMMU, a closed bus-master gate) refused. */
  ACCESS_ERROR: 4,
} as const;
export type MemTx = (typeof MemTx)[keyof typeof MemTx];

/** What an access wants, and what a translation grants: a bit set. */
export const Access = {
  NONE: 0,
  READ: 1,
  WRITE: 2,
  READ_WRITE: 3,
  /** The request asks to execute. */
  EXECUTE: 4,
  /** The request is made in privileged mode. */
  PRIVILEGED: 8,
} as const;

/** No PASID: a request without a PASID prefix. */
export const NO_PASID = -1;

/**
 * Who makes a transaction. One object per bus master, allocated once: `requesterId` is set from the *live* bus number before
 * each access. QEMU: MemTxAttrs.
 */
export class TxAttrs {
  /** bus << 8 | device << 3 | function. */
  requesterId = 0;
  /** 0 .. 2^20 - 1, or NO_PASID. */
  pasid = NO_PASID;
  /** Access.EXECUTE and Access.PRIVILEGED, as the request carries them. */
  flags = 0;
}
