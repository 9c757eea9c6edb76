"""Reading and writing images: PNG, JPEG, TIFF, BMP, WebP, NIfTI and DICOM, found by content and never by name.

**Grid.** ``ChestReader`` returns the *stored* grid in MONAI's axis order: ``(W, H)``, or ``(3, W, H)`` with ``channels=3``
(index 0 is the column of the file). ``common.transforms.ToDisplayd`` makes ``(C, rows, columns)`` as a radiologist sees it;
its inverse and the writers go back. An EXIF rotation is part of the way to display, not of the stored grid.

**Intensity.** float32, 0.0 is black and 1.0 is white *as displayed*; the same picture gives the same numbers from every format.

- 8-bit pictures, 16-bit PNG and TIFF: value / 255 and value / 65535. Colour becomes Rec. 601 luminance, transparency is ignored,
  CMYK is converted. 32-bit TIFF: as it is when within 0..1, else its own range.
- Masks: a lossless grey picture whose largest value is 1, and one of black and a single colour, is a mask and gives 0.0 and 1.0.
  So ``>= 0.5`` binarises every mask (0/1, 0/255, 1-bit, coloured palette, JPEG).
- DICOM: modality LUT or rescale, then VOI LUT, else the first window, else the full range of 8 stored bits, else the picture's own
  range without padding. MONOCHROME1 is turned round; padding is black. A window that misses every pixel value is ignored.
- CT in Hounsfield units (not localisers), whatever window the file proposes: ``CT_WINDOW``. In a NIfTI file, values below -500 are
  taken for Hounsfield units; otherwise 0..1 stays, 8-bit is divided by 255, and all else takes its own range.

**Meta.** The same keys and types for every format, never None; text is ``""`` when unknown, and no key identifies a person
(DICOM UIDs are kept: the batch tool pseudonymises them).

==================== ================= ==============================================================================
key                  type              meaning
==================== ================= ==============================================================================
affine               float64 (4, 4)    stored index (column, row, slice) to RAS mm; ``original_affine`` is a copy
spatial_shape        int64 (2,)        (W, H) of the stored grid
original_channel_dim float | int       nan for ``(W, H)``, 0 for ``(3, W, H)``
display              int64 (3,)        transpose, flip rows, flip columns: stored rows and columns to display, in order
orientation          str               where stored rows and columns run to: ``L\\F``, ``R\\F``, ``A\\F``, ``L\\P`` ...
orientation_source   str               PatientOrientation, ImageOrientationPatient, affine, EXIF, or ``""``: as displayed
spacing_mm           float64 (2,)      between rows, between columns, *as displayed*; nan when unknown
spacing_source       str               PixelSpacing, ImagerPixelSpacing (at the detector), NominalScannedPixelSpacing,
                                       affine
format               str               png, jpeg, tiff, bmp, webp, nifti, dicom
stored_dtype         str               of the stored values, such as ``uint16``
intensity            str               what made 0..1: full range, own range, mask, window, VOI LUT, CT window, unit
modality, body_part, str               DICOM's Modality, BodyPartExamined, ViewPosition, PhotometricInterpretation,
view, photometric,                     PresentationIntentType, ImageType (joined by ``\\``), SOPClassUID,
presentation,                          SOPInstanceUID
image_type,
sop_class_uid,
sop_instance_uid
space                str               RAS
==================== ================= ==============================================================================

**Refusals** are one line, and are raised by ``get_data``: ``LoadImage`` swallows what ``read`` raises. The reader takes
every single picture of grey values, of whatever modality and body part (a nuclear or a magnetic resonance image too):
what a bundle covers is for the caller to judge, from the meta.

In a config: ``{"_target_": "LoadImaged", "keys": [...], "reader": {"_target_": "common.images.ChestReader"}}``, or the string
``"common.images.ChestReader"``. pydicom, nibabel and SimpleITK are imported only when a file needs them.
"""

from common.images.orientation import to_display, to_stored
from common.images.reader import ChestReader, display_array, read_image
from common.images.write import write_mask
from common.images.write_dicom import write_radiograph

__all__ = [
    "ChestReader",
    "display_array",
    "read_image",
    "to_display",
    "to_stored",
    "write_mask",
    "write_radiograph",
]
