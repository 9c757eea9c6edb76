"""Where other programs ask for masks: an Orthanc whose new images are segmented, MONAI Label, MONAI Deploy; archives."""
