/** How many points of failure each scenario has at least: fewer mean that something is not asked, or not counted, any more. */
export const MINIMUM_POINTS: Readonly<Record<string, number>> = {
  'lend/vfio-nesting': 520,
  'lend/vfio-type1v2': 510,
  'lend/vfio-compat': 510,
  'lend/iommufd': 515,
  'lend/iommufd-nested': 590,
  'share/vfio-nesting': 410,
  'share/iommufd-nested': 435,
};
