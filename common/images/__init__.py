r"""Reading and writing images: PNG, JPEG, TIFF, BMP, WebP, NIfTI and DICOM, known by content and never by name.

**Grid.** ``ChestReader`` returns the *stored* grid in MONAI's axis order: ``(W, H)``, or ``(3, W, H)`` with
``channels=3`` (the first spatial index is the column of the file). ``common.transforms.ToDisplayd`` makes
``(C, rows, columns)`` as a radiologist sees it; its inverse and the writers go back. An EXIF rotation is part of
the way to display, not of the stored grid.

**Intensity.** float32, 0.0 is black and 1.0 is white *as displayed*, from every format:

- 8 bits: value / 255. 16-bit and 32-bit PNG and TIFF: 0..1 stays, else the picture's own range. Colour becomes
  Rec. 601 luminance, transparency is ignored, CMYK is converted.
- Masks: a lossless grey picture whose largest value is 1, and a lossless one of black and a single colour, give
  0.0 and 1.0. So ``>= 0.5`` binarises every mask: 0/1, 0/255, 1-bit, coloured, JPEG.
- DICOM: modality LUT or rescale; then the first VOI LUT, else the first window (unless no pixel lies in it), else
  the full range of 8 stored bits, else the own range without padding. MONOCHROME1 is inverted; padding is black.
- CT in Hounsfield units, but for localisers: ``meta.CT_WINDOW``, whatever window the file proposes.
- NIfTI: values below -500 are taken for Hounsfield units; else 0..1 stays, uint8 is divided by 255, and all else
  takes its own range.

**Meta.** The same keys and types for every format, never None; text is ``""`` where unknown. No key identifies a
person but the path and the UID, which the caller may pseudonymise.

- ``affine``, ``original_affine``: float64 (4, 4), stored index (column, row, slice) to RAS mm; ``space``: RAS
- ``spatial_shape``: int64 (2,), (W, H) of the stored grid
- ``original_channel_dim``: nan for ``(W, H)``, 0 for ``(3, W, H)``
- ``display``: int64 (3,), transpose, flip rows, flip columns, in this order, of stored rows and columns
- ``orientation``: where stored columns and stored rows run to: ``L\F``, ``R\F``, ``A\F``, ``L\P`` ...
- ``orientation_source``: PatientOrientation, ImageOrientationPatient, affine, EXIF; ``""``: taken as displayed
- ``spacing_mm``: float64 (2,), between rows and between columns *as displayed*; nan where unknown
- ``spacing_source``: PixelSpacing, ImagerPixelSpacing (at the detector), NominalScannedPixelSpacing, affine
- ``format``: png, jpeg, tiff, bmp, webp, nifti, dicom; ``stored_dtype``: of the stored values, such as uint16
- ``intensity``: full range, own range, unit, mask, window, VOI LUT, CT window
- ``modality``, ``body_part``, ``view``, ``photometric``, ``presentation``, ``image_type``, ``sop_class_uid``,
  ``sop_instance_uid``: DICOM's Modality, BodyPartExamined, ViewPosition, PhotometricInterpretation,
  PresentationIntentType, ImageType (all values), SOPClassUID, SOPInstanceUID
- ``filename_or_obj``: the path

**Refusals** are one line, raised by ``get_data``: ``LoadImage`` swallows what ``read`` raises and tries its own
readers. Every single picture of grey values is read, of whatever modality and body part; what a bundle covers is
for the caller to judge from the meta. Refused: colour and palette DICOM, several frames or slices, DICOM objects
that are no pictures (SEG, SR, RT, parametric maps, ...), damage, folders.

In a config: ``{"_target_": "LoadImaged", "keys": [...], "reader": {"_target_": "common.images.ChestReader"}}``.
pydicom and nibabel are imported only when a file needs them.
"""

from common.images.derived import Algorithm
from common.images.orientation import to_display, to_stored
from common.images.reader import ChestReader, display_array, read_image, read_mask
from common.images.write import write_mask
from common.images.write_dicom import write_radiograph
from common.images.write_sc import write_secondary_capture
from common.images.write_seg import write_seg

__all__ = [
    "Algorithm",
    "ChestReader",
    "display_array",
    "read_image",
    "read_mask",
    "to_display",
    "to_stored",
    "write_mask",
    "write_radiograph",
    "write_secondary_capture",
    "write_seg",
]
