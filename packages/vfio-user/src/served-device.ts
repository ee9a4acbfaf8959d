/** What can be served: anything with regions, by the numbers of linux/vfio.h. */

/** One region: a BAR, or configuration space. */
export interface ServedRegion {
  /** In bytes. */
  readonly size: number;
  /** False: a read from inside a write to the device is refused. */
  readonly reentrant?: boolean;
  /** Fills `out` from `offset` on, all of which lies inside. What nothing answers reads as ones. */
  read(offset: number, out: Uint8Array): void;
  /** Takes `from` at `offset`. */
  write(offset: number, from: Uint8Array): void;
}

export interface ServedVector {
  /** One of VfioPciIrq. */
  readonly index: number;
  readonly vector: number;
}

/**
 * A device as a client sees it. All of it is synchronous: a client's processor waits for the answer. What goes the other way is the
 * DeviceServer's: `message` for interrupts, and the GuestMemory for DMA.
 */
export interface ServedDevice {
  /** For messages to people. */
  readonly name: string;
  /** By VfioPciRegion; undefined where there is none. CONFIG is there. */
  readonly regions: readonly (ServedRegion | undefined)[];
  /** How many vectors of each kind it has, by VfioPciIrq. */
  readonly interrupts: readonly number[];
  /** Whether its interrupt pin is asserted now; absent: it has none. Who serves it is told of changes by DeviceServer.pinChanged. */
  readonly asserted?: boolean;
  /** The vector whose message the DWORD `data` at `(hi, lo)` is, as the device itself knows it. Undefined: none of its own. */
  vectorOf?(hi: number, lo: number, data: number): ServedVector | undefined;
  /** The client takes MSI-X vector `vector` by a descriptor, or does not any more: until it does, the vector is masked. */
  takes?(vector: number, taken: boolean): void;
  /** Raises vector `vector` of kind `index` as if the device had: clients may ask for it. */
  trigger?(index: number, vector: number): void;
  /** Back to what it is after power-on, configuration space included. */
  reset(): void;
}
