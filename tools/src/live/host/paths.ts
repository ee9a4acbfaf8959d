/** Files of a host's kernel. */
export const CONTAINER = '/dev/vfio/vfio';
export const IOMMU = '/dev/iommu';
