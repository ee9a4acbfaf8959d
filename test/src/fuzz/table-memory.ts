/** Memory as those who build tables and the oracle see it: quadwords, wherever they are. */
export interface TableMemory {
  /** Undefined where nothing answers. */
  quad(address: bigint): bigint | undefined;
  /** Nothing happens where nothing answers. */
  putQuad(address: bigint, value: bigint): void;
  /** Whether a unit may write there. */
  isWritable(address: bigint): boolean;
}
