"""Where other programs ask for masks: Orthanc, MONAI Label and MONAI Deploy; and archives for other machines."""
