"""Addresses of datasets and models."""

from django.urls import path

from apps.registry import dataset_views as datasets
from apps.registry import model_views as models

urlpatterns = [
    path("datasets/", datasets.Datasets.as_view(), name="datasets"),
    path("datasets/new/", datasets.NewDataset.as_view(), name="dataset-new"),
    path("datasets/<str:dataset_id>/", datasets.DatasetPage.as_view(), name="dataset"),
    path("datasets/<str:dataset_id>/delete", datasets.DeleteDataset.as_view()),
    path("datasets/<str:dataset_id>/<slug:tab>/", datasets.DatasetPage.as_view()),
    path("models/", models.Models.as_view(), name="models"),
    path("models/new/", models.NewModel.as_view(), name="model-new"),
    path("models/<str:model_id>/", models.ModelOrVersion.as_view(), name="model"),
    path("models/<str:model_id>/delete", models.DeleteModel.as_view()),
    path("models/<str:model_id>/files/<str:name>", models.ModelFileContent.as_view()),
    path("models/<str:model_id>/<slug:tab>/", models.ModelOrVersion.as_view()),
]
